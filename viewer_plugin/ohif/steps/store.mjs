// How the built files are stored: compressed once, here, so that the server only reads and sends them.
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml', '.png': 'image/png', '.ico': 'image/x-icon', '.woff2': 'font/woff2', '.jpg': 'image/jpeg',
  '.json': 'application/json', '.txt': 'text/plain; charset=utf-8',
};
const PACKED_ALREADY = new Set(['.png', '.woff2', '.jpg']);
/** The build puts a digest of the content into these names, so that a name never means another content. */
const DIGEST_IN_NAME = /(^|[./])[0-9a-f]{16}\.[a-z0-9]+$/;
const compressed = promisify(gzip);

/** Write files into a folder; return what a manifest says of each. */
export async function storeAll(folder, files, part) {
  const entries = {};
  for (const [name, content] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const ending = path.extname(name);
    if (!TYPES[ending]) throw new Error(`what is a ${ending} file (${name})?`);
    const isPacked = !PACKED_ALREADY.has(ending) && content.length > 500;
    const stored = isPacked ? await compressed(content, { level: 9 }) : content;
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name) + (isPacked ? '.gz' : ''), stored);
    entries[name] = {
      part, type: TYPES[ending], is_gzip: isPacked, bytes: content.length, stored_bytes: stored.length,
      sha256: createHash('sha256').update(content).digest('hex'), is_immutable: part === 'stock' && DIGEST_IN_NAME.test(name),
    };
  }
  return entries;
}
