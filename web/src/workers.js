// The editor's workers: one for each language and one for the editor itself, each a file of ours.

const FILES = { graphql: "graphql.worker.js", json: "json.worker.js" };

globalThis.MonacoEnvironment = {
  getWorker(_id, label) {
    return new Worker(`/graphql/static/${FILES[label] ?? "editor.worker.js"}`, { name: label });
  },
};
