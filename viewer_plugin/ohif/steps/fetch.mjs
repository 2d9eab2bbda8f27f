// The stock viewer as its makers published it, taken through npm and checked against the digest in package.json.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Return the folder of the unpacked build, and the text of its licence. Fetched once, then kept. */
export async function fetchStock(root, { package: name, version, integrity }) {
  const kept = path.join(root, '.stock');
  const folder = path.join(kept, version);
  if (!existsSync(folder)) {
    await mkdir(kept, { recursive: true });
    // not a dependency: its own dependencies are some 300 MB, and everything needed of them is in the build already
    const packed = execFileSync('npm', ['pack', `${name}@${version}`, '--ignore-scripts', '--silent', '--pack-destination', kept], {
      encoding: 'utf8', cwd: root, stdio: ['ignore', 'pipe', 'inherit'],
    }).trim().split('\n').at(-1);
    const archive = path.join(kept, packed);
    const found = `sha512-${createHash('sha512').update(await readFile(archive)).digest('base64')}`;
    if (found !== integrity) {
      await rm(archive);
      throw new Error(`${name}@${version} is not what it was: ${found} instead of ${integrity}`);
    }
    await rm(`${folder}.part`, { recursive: true, force: true });
    await mkdir(`${folder}.part`);
    // neither the runtime for models in the browser nor slide microscopy: 156 of 204 MB
    execFileSync('tar', ['-xzf', archive, '-C', `${folder}.part`, '--exclude=*/dist/ort', '--exclude=*/dist/dicom-microscopy-viewer', '--exclude=*.map']);
    await rename(`${folder}.part`, folder);
    await rm(archive);
  }
  const unpacked = path.join(folder, 'package');
  return { folder: path.join(unpacked, 'dist'), licence: await readFile(path.join(unpacked, 'LICENSE'), 'utf8') };
}
