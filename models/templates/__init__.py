"""Liquid for bodies, URLs, header values and conditions of webhooks: the one place where Ringback meets python-liquid.

`compile_template` and `compile_condition` are for delivery, `check_template` and `check_condition` for the moment a
webhook is saved, `unknown_paths` for the moment its model changes, `scope` for the names that all of them see. All
failures are TemplateErrors, with line and column.

    lexer        text → tokens, blocks balanced        formatting   what a value prints as
    parser       tokens → syntax tree                  filters      the filters there are, each with its caps
    environment  tags, and what a name means           own_filters  the filters that are ours
    hardening    checkpoints, bounded ranges           budget       the caps, and the meter of a render
    fast_path    the expressions that most are         errors       python-liquid's errors → TemplateError
    loops        the loops that most are               field_paths  the names that a model has
    template     Template, Condition, cache            validation   what is certainly wrong
"""
