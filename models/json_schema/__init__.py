"""JSON Schemas (draft 2020-12) of declared models. Only this package imports jsonschema-rs.

`check_schema` compiles a schema that a user wrote, `load_schema` one that is stored. Both return a `JsonSchema`, which
lists the fields that templates can use and finds what is wrong with an item. Nothing is ever fetched. Neither a schema
nor an item can block the program: regular expressions run in linear time, and the cost of a check is computed before it
runs.

    subschemas       the graph of subschemas           validation_cost  how often a check visits one value
    schema           JsonSchema, its limits and cache  field_paths      the fields that templates can use
    findings         jsonschema-rs' errors → messages
"""
