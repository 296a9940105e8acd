// node lint.mjs FILE...: what graphql-eslint finds in each schema, as JSON: [[{rule, message, line}]].
//
// Its configurations schema-recommended and schema-relay apply as they are, but for what stands here with its reason.

import graphql from "@graphql-eslint/eslint-plugin"
import { ESLint } from "eslint"
import { readFileSync } from "node:fs"

const files = process.argv.slice(2)
const { "flat/schema-recommended": recommended, "flat/schema-relay": relay } = graphql.configs

// Values: they are parts of what holds them, and have no identity of their own.
const VALUES = [
  "AttemptRequest",
  "AttemptResponse",
  "Customer",
  "Header",
  "InboxResponse",
  "InputError",
  "LogEntry", // its cursor says where it stands
  "ModelField",
  "OrderItem",
  "PageInfo",
  "PublishedChange",
  "Viewer",
]

const rules = {
  ...recommended.rules,
  ...relay.rules,
  // Lists go forward only: newest first, from a cursor.
  "@graphql-eslint/relay-arguments": ["error", { includeBoth: false }],
  // The public contract has plain lists beside connections, such as a payload's errors and an event's attempts.
  "@graphql-eslint/relay-edge-types": ["error", { listTypeCanWrapOnlyEdgeType: false }],
  "@graphql-eslint/strict-id-in-types": [
    "error",
    { exceptions: { types: VALUES, suffixes: ["Connection", "Edge", "Payload"] } },
  ],
}

async function lint(file) {
  const eslint = new ESLint({
    overrideConfigFile: true,
    baseConfig: [
      {
        files: ["**/*.graphql"],
        languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: file } } },
        plugins: { "@graphql-eslint": graphql },
        rules,
      },
    ],
  })
  const [{ messages }] = await eslint.lintText(readFileSync(file, "utf8"), { filePath: "schema.graphql" })
  return messages.map(({ ruleId, message, line }) => ({ rule: ruleId, message, line }))
}

const problems = []
for (const file of files) problems.push(await lint(file))
console.log(JSON.stringify(problems))
