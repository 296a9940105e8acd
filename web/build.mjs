// Bundles the GraphiQL page into graphql_api/static, which Ringback serves under /graphql/static/.
//
// There are two bundles: the page is a module split into chunks (the editor is loaded on demand), and each
// worker is one self-contained script. The output refers only to files in its own folder, so the page works
// without internet and under a strict Content-Security-Policy.

import { build } from "esbuild";
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const source = path.join(here, "src");
const target = path.join(here, "..", "graphql_api", "static");

const common = {
  absWorkingDir: here,
  // GraphiQL imports these by their old names, which are CommonJS: esbuild would provide no named exports.
  alias: {
    "prettier/parser-babel": "prettier/plugins/babel",
    "prettier/parser-graphql": "prettier/plugins/graphql",
  },
  bundle: true,
  define: { "process.env.NODE_ENV": '"production"', "process.env.USE_IMPORT": '"true"' },
  legalComments: "none", // LICENSES.txt contains all licences
  logLevel: "warning",
  metafile: true,
  minify: true,
  outdir: target,
  publicPath: "/graphql/static/",
  target: "es2022",
};

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });

const [page, workers] = await Promise.all([
  build({
    ...common,
    entryPoints: { main: path.join(source, "main.jsx") },
    format: "esm",
    splitting: true,
    chunkNames: "chunk-[hash]",
    assetNames: "[name]-[hash]",
    loader: { ".ttf": "file" },
    jsx: "automatic",
    keepNames: true, // GraphiQL derives the titles of its icons from function names
  }),
  build({
    ...common,
    entryPoints: {
      "editor.worker": "monaco-editor/esm/vs/editor/editor.worker.js",
      "graphql.worker": path.join(source, "graphql.worker.js"),
      "json.worker": "monaco-editor/esm/vs/language/json/json.worker.js",
    },
    format: "iife",
  }),
]);

// main.css contains all styles. esbuild also writes them beside each chunk, for pages that load chunks as
// entry points.
for (const file of await readdir(target)) {
  if (/^chunk-.*\.css$/.test(file)) await rm(path.join(target, file));
}
for (const file of ["index.html", "icon.svg"]) {
  await cp(path.join(source, file), path.join(target, file));
}
await writeFile(path.join(target, "LICENSES.txt"), await licenses([page, workers]));
await report();

// The licences of all packages with code in a bundle, as those licences require.
async function licenses(results) {
  const folders = new Set();
  for (const { metafile } of results) {
    for (const input of Object.keys(metafile.inputs)) {
      const folder = input.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0];
      if (folder) folders.add(folder);
    }
  }
  const notices = new Map();
  for (const folder of folders) {
    const { name, version, license } = JSON.parse(
      await readFile(path.join(here, folder, "package.json"), "utf8"),
    );
    const files = (await readdir(path.join(here, folder)))
      .filter((file) => /^(licen[cs]e|copying|notice|thirdpartynotices)/i.test(file))
      .sort();
    const texts = await Promise.all(
      files.map((file) => readFile(path.join(here, folder, file), "utf8")),
    );
    const heading = `${name} ${version} (${license ?? "see below"})`;
    notices.set(heading, [heading, "=".repeat(heading.length), ...texts].join("\n\n").trim());
  }
  const sorted = [...notices].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text);
  return `The GraphiQL page contains code of these packages.\n\n\n${sorted.join("\n\n\n")}\n`;
}

async function report() {
  let total = 0;
  for (const file of (await readdir(target)).sort()) {
    const { size } = await stat(path.join(target, file));
    total += size;
    console.log(`${(size / 1024).toFixed(1).padStart(9)} KiB  ${file}`);
  }
  console.log(`${(total / 1024).toFixed(1).padStart(9)} KiB  in total, in ${path.relative(process.cwd(), target)}`);
}
