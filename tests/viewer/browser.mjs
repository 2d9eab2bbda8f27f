// A browser with a page that keeps what went wrong: errors, answers of 400 and more, requests that leave the machine.
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const { chromium } = createRequire(path.resolve(here, '../../viewer_plugin/ohif/package.json'))('playwright-core');

const FLAGS = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  // WebGL in software: there is no graphics card where this runs
  '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'];

export const sleep = ms => new Promise(done => setTimeout(done, ms));

export async function opened({ executable = process.env.CHROMIUM ?? '/usr/bin/chromium', width = 1280, height = 800 } = {}) {
  const browser = await chromium.launch({ executablePath: executable, headless: true, args: FLAGS });
  const context = await browser.newContext({ viewport: { width, height } });
  const page = await context.newPage();
  const wrong = [];
  const foreign = new Set();
  let bytes = 0;
  page.on('console', message => { if (message.type() === 'error') wrong.push(`console: ${message.text().slice(0, 500)}`); });
  page.on('pageerror', error => wrong.push(`page: ${String(error.stack ?? error).slice(0, 800)}`));
  page.on('response', response => { if (response.status() >= 400) wrong.push(`${response.status()}: ${response.request().method()} ${response.url()}`); });
  page.on('request', request => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') foreign.add(request.url());
  });
  const network = await context.newCDPSession(page);
  await network.send('Network.enable');
  network.on('Network.loadingFinished', event => { bytes += event.encodedDataLength; });
  return { browser, page, wrong, foreign, bytes: () => bytes };
}
