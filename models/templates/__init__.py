"""Liquid for bodies, URLs, header values and conditions of webhooks: the one place where Ringback meets python-liquid.

`compile_template` and `compile_condition` are for delivery, `check_template` and `check_condition` for the moment a
webhook is saved, `unknown_paths` for the moment its model changes, `scope` for the names that all of them see. All
failures are TemplateErrors, with line and column.

    lexer        text → tokens, blocks balanced        formatting   what a value prints as
    parser       tokens → syntax tree                  filters      the filters there are, each with its caps
    environment     tags, and the environment          own_filters  the filters that are ours
    render_context  what a name means in a render      field_info   what is known of one field
    hardening    checkpoints, bounded ranges           budget       the caps, and the meter of a render
    fast_path    frequent expressions, and loops       errors       python-liquid's errors → TemplateError
    template     Template, Condition, cache            field_paths  the names that a model has
    scope        the root names: item and event        validation   what is certainly wrong
"""
