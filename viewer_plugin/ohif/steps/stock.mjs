// What is done to the stock build: unneeded files left out, addresses moved under /viewer/, white space taken out.
import { transform } from 'esbuild';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';

export const BASE = '/viewer/';
const UNNEEDED_FOLDERS = ['ort/', 'dicom-microscopy-viewer/', 'customizations/'];
const UNNEEDED = new Set(['sw.js', 'init-service-worker.js', 'google.js', 'es6-shim.min.js', 'polyfill.min.js', 'oidc-client.min.js',
  'silent-refresh.html', 'serve.json', '_headers', '_redirects', 'app-config.js', 'manifest.json', 'index.html']);
/** Chunks that only the viewer of microscopy slides and OHIF's own test modes reach; none is loaded at the start. */
const UNREACHED = /^(5731|8832|8423|9437|4556)\./;
const KEPT_ASSETS = /^assets\/(images\/|favicon)/;
/** Where a bundle keeps the address that it loads its other parts from. */
const PUBLIC_PATH = '__webpack_require__.p = "/";';
const LEAST_MOVED = 8;
let movedBundles = 0;

export async function keptFiles(folder) {
  const all = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter(entry => entry.isFile())
    .map(entry => path.relative(folder, path.join(entry.parentPath ?? entry.path, entry.name)).split(path.sep).join('/'));
  return all.filter(name => !name.endsWith('.map') && !UNNEEDED.has(name) && !UNREACHED.test(name)
    && !UNNEEDED_FOLDERS.some(start => name.startsWith(start))
    && (!name.startsWith('assets/') || KEPT_ASSETS.test(name))).sort();
}

/** A file with its addresses under /viewer/. */
export function moved(name, content) {
  if (name.endsWith('.js')) {
    const text = content.toString('utf8');
    if (!text.includes(PUBLIC_PATH)) return content;
    movedBundles += 1;
    return Buffer.from(text.replaceAll(PUBLIC_PATH, `__webpack_require__.p = "${BASE}";`));
  }
  return name.endsWith('.css') ? Buffer.from(content.toString('utf8').replaceAll('url(/', `url(${BASE}`)) : content;
}

/** A script or style sheet without white space; names stay, so that messages of errors can be read. */
export async function shrunk(name, content) {
  const loader = name.endsWith('.js') ? 'js' : name.endsWith('.css') ? 'css' : null;
  if (!loader) return content;
  const { code } = await transform(content.toString('utf8'), {
    loader, minifyWhitespace: true, minifySyntax: loader === 'js', legalComments: 'none', logLevel: 'error',
  });
  return Buffer.from(code);
}

/** Our own page instead of the stock one: no script stands in it, so that the policy need not allow any that does. */
export async function page(folder) {
  if (movedBundles < LEAST_MOVED) throw new Error(`only ${movedBundles} bundles name where they lie; this OHIF is built otherwise`);
  const stock = await readFile(path.join(folder, 'index.html'), 'utf8');
  const bundle = stock.match(/src="\/(app\.bundle\.[0-9a-f]+\.js)"/)?.[1];
  const style = stock.match(/href="\/(app\.bundle[.0-9a-f]*\.css)"/)?.[1];
  if (!bundle || !style) throw new Error('index.html names no app bundle; this OHIF is built otherwise');
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>annotate-server</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="${BASE}assets/favicon.ico">
<script src="${BASE}start.js"></script><script src="${BASE}app-config.js"></script>
<script defer src="${BASE}${bundle}"></script><link href="${BASE}${style}" rel="stylesheet"></head>
<body><noscript>The viewer needs JavaScript.</noscript><div id="react-portal"></div><div id="root"></div></body></html>
`;
  return new Map([['index.html', Buffer.from(html)]]);
}
