// One running subscription, shown as a list.
//
// GraphiQL shows one result at a time, so one of two log entries in the same millisecond would never be
// seen. Here messages are collected, newest first, and passed to GraphiQL as one growing result, redrawn
// at most ten times a second. When the connection breaks, the subscription resumes by itself: after the
// last `cursor` if the operation has a variable `$after`, so that no entry is missed; otherwise from now,
// and the list says so. Each change of state is also reported to `onStatus`, because GraphiQL drops the
// last result of a subscription whose tab is left.

import { createClient } from "graphql-ws";

const KEPT = 100; // messages
const REDRAW_MS = 100;
const CATCH_UP_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const PING_MS = 10_000; // detects connections that died while the machine was suspended
const REFUSED = [4401, 4403];
const LISTENING = "Listening";
const LOST = "The connection is lost, trying again";
const CURSOR_BEHIND = "CURSOR_BEHIND";

/** The messages of one subscription, as a result for GraphiQL. */
export class MessageList {
  #messages = [];
  #received = 0;
  #missed = false;
  #resumable;
  #cursor = null;
  state = "Connecting";

  constructor(operation) {
    this.#resumable = operation.variableDefinitions?.some(({ variable }) => variable.name.value === "after");
  }

  add(message) {
    this.#received += 1;
    this.#messages = [message, ...this.#messages.slice(0, KEPT - 1)];
    this.#cursor = Object.values(message.data ?? {})[0]?.cursor ?? this.#cursor;
  }

  /** The cursor to resume after, or null for "from now". */
  get after() {
    return this.#resumable ? this.#cursor : null;
  }

  interrupted() {
    this.state = LOST;
    if (this.#received && this.after === null) this.#missed = true;
  }

  /** What to show beside the list; null while the subscription runs. */
  status(problem) {
    if (problem !== undefined) return { ended: true, text: problem, after: this.after, picture: this.picture() };
    if (this.state !== LOST) return null;
    const text = "The connection to the server is lost. Trying again.";
    return { ended: false, text: this.after === null ? `${text} Entries from the time between are not shown.` : text };
  }

  picture() {
    const live = this.#received ? [`${this.#received} received, newest first`] : [];
    if (this.state !== LISTENING || !this.#received) live.push(this.state);
    if (this.#missed) live.push("What happened while the connection was lost is not here");
    return { live: live.join(". "), messages: this.#messages };
  }
}

/** An observable of the growing list. GraphiQL subscribes on Run and unsubscribes on Stop. */
export function follow({ url, token, params, operation, onRefused, onStatus = () => {} }) {
  return {
    subscribe(sink) {
      const list = new MessageList(operation);
      const screen = createScreen(list, sink, onStatus);
      onStatus(null);
      const client = createClient({
        url,
        connectionParams: { Authorization: `Bearer ${token}` },
        keepAlive: PING_MS,
        retryAttempts: Infinity,
        // An unreachable server is an Event, a closed connection a CloseEvent; an Error is a bug of this page.
        shouldRetry: (problem) => !(problem instanceof Error) && !REFUSED.includes(problem.code),
        retryWait: (attempt) => pause(Math.min(1000 * 2 ** attempt, LONGEST_WAIT_MS) + 500 * Math.random()),
        on: {
          connected: () => {
            list.state = LISTENING;
            screen.redraw();
          },
          closed: () => {
            list.interrupted();
            screen.redraw();
          },
        },
      });
      let stop;
      let behind = false; // the server ended the subscription because we read too slowly, and it can resume

      const take = (message) => {
        behind = list.after !== null && message.errors?.some((error) => error.extensions?.code === CURSOR_BEHIND);
        if (behind) return;
        list.add(message);
        screen.redraw();
      };
      const finish = (state, problem) => {
        if (!behind) return screen.close(state, problem);
        behind = false;
        const timer = setTimeout(start, CATCH_UP_MS);
        stop = () => clearTimeout(timer);
      };
      const start = () => {
        stop = client.subscribe(resuming(params, list), {
          next: take,
          complete: () => finish("Ended by the server", `Stopped. The server ended the subscription. ${howToGoOn(list)}`),
          error: (problem) => {
            if (isClose(problem)) {
              const cause = `${problem.code} ${problem.reason}`;
              screen.close(`Closed by the server (${cause})`, `Stopped. The server closed the connection (${cause}). ${howToGoOn(list)}`);
              if (REFUSED.includes(problem.code)) onRefused();
            } else {
              const errors = Array.isArray(problem) ? problem : [{ message: String(problem) }];
              take({ errors });
              finish("Ended by an error", `Stopped by an error. ${errors.map(({ message }) => message).join(" ")}`);
            }
          },
        });
      };
      start();
      return {
        unsubscribe() {
          screen.close("Stopped", `Stopped. A subscription runs only while its tab is open. ${howToGoOn(list)}`);
          stop();
          client.dispose().catch(() => {}); // rejects if it was waiting to connect again
        },
      };
    },
  };
}

// The request. `after` is read again for each connection, because graphql-ws reconnects by itself.
function resuming(params, list) {
  return {
    ...params,
    get variables() {
      return list.after === null ? params.variables : { ...params.variables, after: list.after };
    },
  };
}

/** Variables, as text that may hold comments, with `after` set to a cursor. */
export function withAfter(text, cursor) {
  const entry = `"after": ${JSON.stringify(cursor)}`;
  const given = /^(?!\s*\/\/)(.*[{,]\s*|\s*)"after"\s*:\s*(?:null|"[^"]*")/m;
  if (given.test(text)) return text.replace(given, (_, before) => before + entry);
  if (/{\s*[^\s}]/.test(text)) return text.replace("{", () => `{\n  ${entry},`);
  return `{\n  ${entry}\n}\n`;
}

function howToGoOn({ after }) {
  return after === null ? "Run it again to follow new entries." : `Run it again from the cursor ${after} to miss no entry.`;
}

function createScreen(list, sink, onStatus) {
  let timer = null;
  let closed = false;
  return {
    redraw() {
      if (closed) return;
      onStatus(list.status());
      timer ??= setTimeout(() => {
        timer = null;
        sink.next(list.picture());
      }, REDRAW_MS);
    },
    close(state, problem) {
      if (closed) return;
      closed = true;
      clearTimeout(timer);
      list.state = state;
      onStatus(list.status(problem));
      sink.next(list.picture());
      sink.complete();
    },
  };
}

function isClose(problem) {
  return typeof problem?.code === "number" && typeof problem.reason === "string";
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
