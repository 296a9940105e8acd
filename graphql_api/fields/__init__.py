"""Building blocks of the schema: scalars, enums, Relay connections, and field kinds."""
