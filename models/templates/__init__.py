"""Liquid templates for webhook bodies, URLs, header values and conditions. Only this package imports python-liquid.

Delivery uses `compile_template` and `compile_condition`. `check_template` and `check_condition` find mistakes when a
webhook is saved, `find_unknown_paths` finds fields that a changed model lost, and `build_scope` builds the names that
templates can use. Every failure is a TemplateError, with line and column where they are known.

    syntax/         text → tokens → syntax tree        formatting      how values become text
    filters/        allowed filters and their limits   errors          python-liquid's errors → TemplateError
    template        Template, Condition, cache         budget          limits, and the meter of a render
    render_context  name look-up during a render       charset         the charset of a body
    scope           the root names: item and event     field_info      description of one model field
    decimals        decimal values, exact arithmetic   field_paths     the fields that a model has
    decimal_fields  a snapshot's decimals → numbers    validation      mistakes that are certain
    number_use      what a template computes with      mixed_types     comparisons of a number with text
    known_text      what constants alone render to
"""
