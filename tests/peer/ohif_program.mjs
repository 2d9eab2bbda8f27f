// The client of MONAI Label's OHIF plugin, unchanged, driven from outside: a line of JSON for each call and each answer.
// Arguments: its source (MonaiLabelClient.js) and the server's address. It finds the stand-in for axios beside this.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';

const [source, address] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ohif-client-'));
console.log = console.debug = () => {};

function told(value) {
  const { status, data, message } = value;
  if (status === undefined) {
    return { status: value.response?.status ?? null, message };
  }
  const content = data instanceof ArrayBuffer ? Buffer.from(data).toString('base64') : data;
  return { status, data: content };
}

try {
  cpSync(source, join(folder, 'client.mjs'));
  cpSync(join(here, 'stand_in_axios'), join(folder, 'node_modules/axios'), { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{}');
  const { default: Client } = await import(pathToFileURL(join(folder, 'client.mjs')));
  const client = new Client(address);
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, words } = JSON.parse(line);
    const value = await client[call](...words);
    const answer = typeof value === 'object' && value !== null ? told(value) : value;
    process.stdout.write(`${JSON.stringify({ value: answer })}\n`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
