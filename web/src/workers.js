// The editor's workers: one for each language and one for the editor itself, all served by Ringback.

const FILES = { graphql: "graphql.worker.js", json: "json.worker.js" };

globalThis.MonacoEnvironment = {
  getWorker(_id, label) {
    return new Worker(`/graphql/static/${FILES[label] ?? "editor.worker.js"}`, { name: label });
  },
};
