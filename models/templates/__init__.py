"""Liquid templates for webhook bodies, URLs, header values and conditions. Only this package imports python-liquid.

Delivery uses `compile_template` and `compile_condition`. `check_template` and `check_condition` find mistakes when a
webhook is saved, `find_unknown_paths` finds fields that a changed model lost, and `build_scope` builds the names that
templates can use. Every failure is a TemplateError, with line and column where they are known.

    lexer           text → tokens, blocks balanced     formatting      how values become text
    parser          tokens → syntax tree               filters         allowed filters and their limits
    environment     tags and their nodes               errors          python-liquid's errors → TemplateError
    render_context  name look-up during a render       budget          limits, and the meter of a render
    hardening       checkpoints, bounded ranges        charset         the charset of a body
    fast_path       frequent expressions, and loops    field_info      description of one model field
    comparisons     ==, <, contains, `blank`           field_paths     the fields that a model has
    template        Template, Condition, cache         validation      mistakes that are certain
    scope           the root names: item and event     mixed_types     comparisons of a number with text
    decimals        decimal values, exact arithmetic   known_text      what constants alone render to
    decimal_fields  a snapshot's decimals → numbers    number_use      what a template computes with
"""
