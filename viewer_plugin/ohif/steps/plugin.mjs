// Our modules: each one file, without OHIF, cornerstone or React in it, for the viewer brings those.
import { build } from 'esbuild';
import path from 'node:path';

/** Return {name: bytes}. */
export async function bundlePlugin(root) {
  const result = await build({
    entryPoints: { extension: path.join(root, 'src/extension.ts'), mode: path.join(root, 'src/mode.ts'), worklist: path.join(root, 'src/worklist.tsx') },
    bundle: true, format: 'esm', minify: true, target: 'es2022', outdir: 'plugin', write: false,
    jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none', loader: { '.css': 'text' }, absWorkingDir: root,
  });
  return new Map(result.outputFiles.map(file => [`plugin/${path.basename(file.path)}`, Buffer.from(file.contents)]));
}
