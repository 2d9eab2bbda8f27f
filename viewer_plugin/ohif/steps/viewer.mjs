// Builds the viewer into annotate_server/viewer_build: the stock OHIF, moved under /viewer/, and our plugin beside it.
// Nothing of OHIF is rebuilt. Running it again is quick: the stock part is kept while what it is made of is the same.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchStock } from './fetch.mjs';
import { notices } from './notices.mjs';
import { bundlePlugin } from './plugin.mjs';
import { BASE, keptFiles, moved, page, shrunk } from './stock.mjs';
import { storeAll } from './store.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.dirname(HERE);
const OUT = path.resolve(ROOT, '../../annotate_server/viewer_build');

/** What the stock part is made of, as one number. */
async function recipe() {
  const hash = createHash('sha256').update(await readFile(path.join(ROOT, 'package-lock.json')));
  for (const name of ['viewer.mjs', 'fetch.mjs', 'notices.mjs', 'stock.mjs', 'store.mjs', '../package.json']) {
    hash.update(await readFile(path.join(HERE, name)));
  }
  return hash.digest('hex');
}

/** The stock viewer as {name: bytes}, pruned, moved under /viewer/ and minified. */
async function stock(ohif) {
  const { folder, licence } = await fetchStock(ROOT, ohif);
  const files = new Map();
  const original = new Map();
  for (const name of await keptFiles(folder)) {
    const content = await readFile(path.join(folder, name));
    original.set(name, content);
    files.set(name, await shrunk(name, moved(name, content)));
  }
  for (const [name, content] of await page(folder)) files.set(name, content);
  files.set('THIRD_PARTY_NOTICES.txt', Buffer.from(notices(original, licence, ohif)));
  return files;
}

async function ours() {
  const files = await bundlePlugin(ROOT);
  for (const name of await readdir(path.join(ROOT, 'page'))) {
    files.set(name, await readFile(path.join(ROOT, 'page', name)));
  }
  return files;
}

async function manifestOf(folder) {
  const file = path.join(folder, 'manifest.json');
  return existsSync(file) ? JSON.parse(await readFile(file, 'utf8')) : null;
}

const started = Date.now();
const { ohif } = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));
const recipeNow = await recipe();
const before = await manifestOf(OUT);
const isSame = before?.recipe === recipeNow;
const part = `${OUT}.part`;
await rm(part, { recursive: true, force: true });
let entries;
if (isSame) {
  // the plugin alone is made anew, in place: its names are not those of the stock part
  entries = Object.fromEntries(Object.entries(before.files).filter(([, entry]) => entry.part === 'stock'));
  Object.assign(entries, await storeAll(OUT, await ours(), 'ours'));
  await writeManifest(OUT);
} else {
  console.log(`Building the viewer of ${ohif.package} ${ohif.version}; the first time some 50 MB are fetched for it.`);
  await mkdir(part, { recursive: true });
  entries = await storeAll(part, await stock(ohif), 'stock');
  Object.assign(entries, await storeAll(part, await ours(), 'ours'));
  await writeManifest(part);
  await rm(OUT, { recursive: true, force: true });
  await rename(part, OUT);
}
const bytes = Object.values(entries).reduce((sum, entry) => sum + entry.stored_bytes, 0);
const plugin = entries['plugin/extension.js'].stored_bytes + entries['plugin/mode.js'].stored_bytes;
console.log(`The viewer is built: ${Object.keys(entries).length} files, ${(bytes / 1e6).toFixed(1)} MB compressed, `
  + `the plugin ${(plugin / 1e3).toFixed(1)} kB; ${((Date.now() - started) / 1000).toFixed(1)} s.`);

async function writeManifest(folder) {
  const manifest = { format: 1, viewer: `${ohif.package} ${ohif.version}`, base: BASE, recipe: recipeNow, files: entries };
  const file = path.join(folder, 'manifest.json');
  await writeFile(`${file}.part`, JSON.stringify(manifest, null, 1));
  await rename(`${file}.part`, file);
}
