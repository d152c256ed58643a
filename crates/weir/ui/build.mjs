// Bundles the console into dist/: index.html, app.js, app.css, land.bin, each but the first with a
// .gz twin. `--check` builds into memory and compares, so that a stale dist fails.
import { build } from "esbuild";
import { readFileSync, writeFileSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { gzipSync, gunzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { dirname, join } from "node:path";
import { landBytes } from "./land.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
const check = process.argv.includes("--check");
const UI_GZ_BYTES_MAX = 120_000;
const LAND_GZ_BYTES_MAX = 170_000;

const bundle = await build({
  entryPoints: { app: join(here, "src/main.tsx") },
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof",
  charset: "utf8",
  outdir: dist,
  write: false,
  logLevel: "warning",
});
const files = new Map(bundle.outputFiles.map((f) => [f.path.split("/").pop(), Buffer.from(f.contents)]));
files.set("index.html", readFileSync(join(here, "src/index.html")));
files.set("land.bin", landBytes());

let ui = 0;
let land = 0;
for (const [name, bytes] of files) {
  const packed = gzipSync(bytes, { level: 9 }).length;
  if (name === "land.bin") land += packed;
  else ui += packed;
  console.log(`${name.padEnd(12)} ${String(bytes.length).padStart(8)} B  ${String(packed).padStart(8)} B gz`);
}
console.log(`UI ${ui} of ${UI_GZ_BYTES_MAX} B gz, basemap ${land} of ${LAND_GZ_BYTES_MAX} B gz`);
if (ui > UI_GZ_BYTES_MAX || land > LAND_GZ_BYTES_MAX) fail("over the budget");

if (check) {
  const expected = new Set();
  for (const [name, bytes] of files) {
    expected.add(name);
    same(name, bytes, read(name));
    if (name === "index.html") continue;
    expected.add(`${name}.gz`);
    // Compared unpacked: zlib's output differs between versions of node.
    same(`${name}.gz`, bytes, gunzipSync(read(`${name}.gz`)));
  }
  for (const name of readdirSync(dist)) if (!expected.has(name)) fail(`dist/${name} is not made by the build`);
  console.log("dist is fresh");
} else {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist, { recursive: true });
  for (const [name, bytes] of files) {
    writeFileSync(join(dist, name), bytes);
    if (name !== "index.html") writeFileSync(join(dist, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  }
}

function read(name) {
  try {
    return readFileSync(join(dist, name));
  } catch {
    return fail(`dist/${name} is missing`);
  }
}

function same(name, built, held) {
  if (!built.equals(held)) fail(`dist/${name} is stale`);
}

function fail(why) {
  console.error(`error: ${why}\nhelp: crates/weir/ui/build.sh, then commit dist`);
  process.exit(1);
}
