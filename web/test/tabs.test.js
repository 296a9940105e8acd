// The ready tabs: well-formed, and in the plain form that other programs parse.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { parse } from "graphql";
import { tabs } from "../src/tabs.js";

const operations = tabs.map(({ query }) => parse(query).definitions);

test("each tab is one operation, whose name is the tab's title", () => {
  assert.deepEqual(
    operations.map((definitions) => definitions.map(({ operation, name }) => `${operation} ${name.value}`)),
    [
      ["mutation CreateInbox"],
      ["mutation CreateWebhook"],
      ["subscription DeliveryLog"],
      ["mutation RequestCallback"],
      ["query InboxRequests"],
      ["query Event"],
      ["query Webhooks"],
      ["query WebhookLog"],
      ["mutation UpdateWebhook"],
      ["mutation TestFireWebhook"],
      ["mutation RedeliverEvent"],
      ["mutation DeleteWebhook"],
    ],
  );
});

test("each tab opens with a comment of two lines, which starts with the tab's number", () => {
  tabs.forEach(({ query }, index) => assert.match(query, new RegExp(`^# ${index + 1}\\. [A-Z][^\n]+\\.\n# [A-Z][^\n]+\\.\n\n[a-z]`)));
});

test("each tab gives exactly the variables of its operation", () => {
  tabs.forEach(({ variables }, index) => {
    const given = JSON.parse(variables.replace(/^\s*\/\/.*$/gm, ""));
    const declared = operations[index][0].variableDefinitions.map(({ variable }) => variable.name.value);
    assert.deepEqual(Object.keys(given), declared);
  });
});

test("the file can be read without running it", async () => {
  const text = await readFile(new URL("../src/tabs.js", import.meta.url), "utf8");
  const literals = (name) => [...text.matchAll(new RegExp(`${name}: \`([^\`]*)\``, "g"))].map(([, literal]) => literal);
  assert.deepEqual(literals("query"), tabs.map(({ query }) => query));
  assert.deepEqual(literals("variables"), tabs.map(({ variables }) => variables));
});
