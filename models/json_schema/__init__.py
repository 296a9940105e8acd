"""JSON Schemas (draft 2020-12) of declared models: the one place where Ringback meets jsonschema-rs.

`check_schema` reads one that a person wrote, `load` one that is stored; both give a `JsonSchema`, which knows the
fields that templates may use and tells of an item where it does not fit. Nothing is ever fetched, and neither a schema
nor an item can hold up the program: regular expressions run in linear time, and what a check would cost is known
beforehand.

    subschemas       the subschemas, what their references lead to, what applies to one value
    validation_cost  how often one value is looked at       field_paths  the paths that a template may use
    schema           JsonSchema, its limits, its cache      findings     jsonschema-rs' errors in plain words
"""
