"""Liquid templates for webhook bodies, URLs, header values and conditions. Only this package imports python-liquid.

Delivery uses `compile_template` and `compile_condition`. `check_template` and `check_condition` find mistakes when a
webhook is saved, `find_unknown_paths` finds fields that a changed model lost, and `build_scope` builds the names that
templates can use. Every failure is a TemplateError, with line and column where they are known.

    lexer           text → tokens, blocks balanced     formatting      how values become text
    parser          tokens → syntax tree               filters         allowed filters and their limits
    environment     tags and their nodes               number_filters  filters that compute
    render_context  name look-up during a render       list_filters    filters that compare elements
    hardening       checkpoints, bounded ranges        dates           the filter `date`
    fast_path       frequent expressions, and loops    own_filters     other filters, python-liquid's replaced
    comparisons     ==, <, contains, `blank`           errors          python-liquid's errors → TemplateError
    template        Template, Condition, cache         budget          limits, and the meter of a render
    scope           the root names: item and event     field_info      description of one model field
    decimals        decimal values, exact arithmetic   field_paths     the fields that a model has
    decimal_fields  a snapshot's decimals → numbers    validation      mistakes that are certain
    number_use      what a template computes with      mixed_types     comparisons of a number with text
    known_text      what constants alone render to
"""
