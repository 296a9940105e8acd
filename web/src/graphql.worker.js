// The GraphQL language worker, with one correction: `field: Boolean! = false` may be left out, and so
// may a variable with a default, though monaco-graphql 1.9 marks both as missing. Half the fields of
// Ringback's inputs have a default.

import { parse } from "graphql";
import { initialize } from "monaco-editor/esm/vs/editor/editor.worker.js";
import { GraphQLWorker } from "monaco-graphql/esm/GraphQLWorker.js";

class Worker extends GraphQLWorker {
  async doGetVariablesJSONSchema(uri) {
    const schema = await super.doGetVariablesJSONSchema(uri);
    if (!schema) return schema;
    for (const type of Object.values(schema.definitions ?? {})) {
      type.required = type.required?.filter((name) => !("default" in type.properties[name]));
    }
    const optional = variablesWithDefault(this._getTextModel(uri)?.getValue() ?? "");
    schema.required = schema.required?.filter((name) => !optional.has(name));
    return schema;
  }
}

function variablesWithDefault(text) {
  try {
    return new Set(
      parse(text)
        .definitions.flatMap((definition) => definition.variableDefinitions ?? [])
        .filter((variable) => variable.defaultValue)
        .map((variable) => variable.variable.name.value),
    );
  } catch {
    return new Set(); // half-written
  }
}

globalThis.onmessage = () => initialize((context, options) => new Worker(context, options));
