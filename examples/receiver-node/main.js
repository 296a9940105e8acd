// A receiver of webhooks: it verifies the signature of each request, and handles each event once.
//
//     WEBHOOK_SECRET=whsec_... node main.js [PORT]

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

// Bytes of the longest body that is read.
const MAX_BODY = 1_000_000;
const HANDLED = "events.txt";

const secret = process.env.WEBHOOK_SECRET;
if (!secret) {
  console.error("Set WEBHOOK_SECRET to the webhook's signingSecret.");
  process.exit(1);
}
const webhook = new Webhook(secret);
const handled = new Set(existsSync(HANDLED) ? readFileSync(HANDLED, "utf8").split("\n") : []);
const running = new Map();

// Do what your program does with an event. An exception leads to a 500, and so to the next attempt.
async function handle(eventId, action, body) {
  console.log(`${eventId} ${action}: ${body}`);
}

// Handle an event unless it was handled before. A repetition that arrives meanwhile waits for the first one's end.
async function handleOnce(eventId, action, body) {
  if (handled.has(eventId) || running.has(eventId)) {
    console.log(`${eventId} is a duplicate`);
    return running.get(eventId);
  }
  const work = handle(eventId, action, body);
  running.set(eventId, work);
  try {
    await work;
    // With a database, store the id in the transaction in which your program does its work.
    appendFileSync(HANDLED, `${eventId}\n`);
    handled.add(eventId);
  } finally {
    running.delete(eventId);
  }
}

async function readBody(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function receive(request) {
  const body = await readBody(request);
  if (body === null) return 413;
  try {
    webhook.verify(body, request.headers, { jsonParse: false }); // a template may print anything
  } catch (error) {
    console.log(`refused: ${error.message}`);
    return 401;
  }
  const eventId = request.headers["webhook-id"];
  try {
    await handleOnce(eventId, request.headers["ringback-event"], body);
    return 200;
  } catch (error) {
    console.log(`${eventId} failed: ${error.message}`);
    return 500;
  }
}

const server = createServer(async (request, response) => {
  const status = request.method === "POST" ? await receive(request).catch(() => 400) : 405;
  response.writeHead(status, { "Content-Length": 0 }).end();
});
server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`receiving on http://127.0.0.1:${server.address().port}/`);
});
