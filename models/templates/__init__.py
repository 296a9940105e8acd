"""Liquid for bodies, URLs, header values and conditions of webhooks: the one place where Ringback meets python-liquid.

`compile_template` and `compile_condition` are for delivery, `check_template` and `check_condition` for the moment a
webhook is saved, `unknown_paths` for the moment its model changes, `scope` for the names that all of them see. All
failures are TemplateErrors, with line and column.

    lexer        text → tokens, blocks balanced        values     what a value prints as
    parsing      tokens → syntax tree                  filters    the filters there are, each with its caps
    environment  tags, and what a name means           functions  the filters that are ours
    hardening    checkpoints, bounded ranges           limits     the caps, and the meter of a render
    straight     the expressions that most are         problems   python-liquid's errors → TemplateError
    loops        the loops that most are               fields     the names that a model has
    compiled     Template, Condition, cache            checks     what is certainly wrong
"""
