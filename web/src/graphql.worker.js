// The GraphQL language worker, with one correction: monaco-graphql 1.9 marks fields such as
// `field: Boolean! = false`, and variables with a default, as missing, although they are optional. Half of
// Ringback's input fields have a default.

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
    return new Set(); // incomplete text
  }
}

globalThis.onmessage = () => initialize((context, options) => new Worker(context, options));
