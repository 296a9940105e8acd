// node breaking.mjs OLD NEW: what breaks clients of an old schema, by graphql-inspector, as JSON: [{path, message}].

import { CriticalityLevel, diff } from "@graphql-inspector/core"
import { buildSchema } from "graphql"
import { readFileSync } from "node:fs"

const [before, now] = process.argv.slice(2).map((file) => buildSchema(readFileSync(file, "utf8")))
const changes = await diff(before, now)
const breaking = changes.filter((change) => change.criticality.level === CriticalityLevel.Breaking)
console.log(JSON.stringify(breaking.map(({ path, message }) => ({ path, message }))))
