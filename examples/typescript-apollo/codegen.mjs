// Makes src/generated.ts, the types of src/operations.graphql, from the schema; fails when they do not fit it.
// (GraphQL Code Generator without its command line: a sixth of the packages.)

import { readFile, writeFile } from "node:fs/promises";
import { codegen } from "@graphql-codegen/core";
import * as documents from "@graphql-codegen/typed-document-node";
import * as operations from "@graphql-codegen/typescript-operations";
import { parse } from "graphql";

const SCHEMA = new URL("../../schema.graphql", import.meta.url);
const OPERATIONS = new URL("src/operations.graphql", import.meta.url);
const GENERATED = new URL("src/generated.ts", import.meta.url);

const read = async (file) => parse(await readFile(file, "utf8"));
const made = await codegen({
  filename: GENERATED.pathname,
  schema: await read(SCHEMA),
  documents: [{ location: OPERATIONS.pathname, document: await read(OPERATIONS) }],
  config: {
    strictScalars: true,
    scalars: { ID: "string", DateTime: "string", Decimal: "string", JSON: "unknown" },
    futureProofEnums: true, // LogKind and others may grow
    useTypeImports: true,
  },
  plugins: [{ operations: {} }, { documents: {} }],
  pluginMap: { operations, documents },
});
await writeFile(GENERATED, made);
