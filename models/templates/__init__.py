"""Liquid templates for webhook bodies, URLs, header values and conditions. Only this package imports python-liquid.

Delivery uses `compile_template` and `compile_condition`. `check_template` and `check_condition` find mistakes when a
webhook is saved, `find_unknown_paths` finds fields that a changed model lost, and `build_scope` builds the names that
templates can use. Every failure is a TemplateError, with line and column where they are known.

    lexer           text → tokens, blocks balanced     formatting   how values become text
    parser          tokens → syntax tree               filters      allowed filters and their limits
    environment     tags and their nodes               own_filters  filters that replace python-liquid's
    render_context  name look-up during a render       field_info   description of one model field
    hardening       checkpoints, bounded ranges        budget       limits, and the meter of a render
    fast_path       frequent expressions, and loops    errors       python-liquid's errors → TemplateError
    template        Template, Condition, cache         field_paths  the fields that a model has
    scope           the root names: item and event     validation   mistakes that are certain
"""
