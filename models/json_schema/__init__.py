"""JSON Schemas (draft 2020-12) of declared models. Only this package imports jsonschema-rs.

`compiler` compiles schemas in one thread and keeps the stored ones that were used last. A `JsonSchema` lists the fields
that templates can use and finds what is wrong with an item. Nothing is ever fetched. Neither a schema nor an item can
block the program: the size of patterns is limited, and the cost of a check is computed before it runs.

    subschemas       the graph of subschemas           validation_cost  the most that a check of an item can take
    patterns         compiled sizes of patterns        field_paths      the fields that templates can use
    schema           JsonSchema and its limits         findings         jsonschema-rs' errors → messages
    compiler         the thread and the cache          json_values      the extent of a JSON value
    value_types      the types of values
"""
