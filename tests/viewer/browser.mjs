// The browser of the tests, and what goes wrong in it: errors, answers of 400 and more, requests that leave the machine.
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
export const packages = createRequire(path.resolve(here, '../../viewer_plugin/ohif/package.json'));
const { chromium } = packages('playwright-core');

const FLAGS = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  // WebGL in software: there is no graphics card where this runs
  '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'];

export const sleep = ms => new Promise(done => setTimeout(done, ms));

export const launched = executable => chromium.launch({ executablePath: executable, headless: true, args: FLAGS });

/** A window of one person, with cookies and a cache of its own; `wrong` and `foreign` are filled by all that happens in it. */
export async function opened(browser, { wrong = [], foreign = new Set(), width = 1280, height = 800, ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, ...more });
  context.on('console', message => { if (message.type() === 'error') wrong.push(`console: ${message.text().slice(0, 500)}`); });
  context.on('weberror', error => wrong.push(`page: ${String(error.error().stack ?? error.error()).slice(0, 800)}`));
  context.on('response', response => { if (response.status() >= 400) wrong.push(`${response.status()}: ${response.request().method()} ${response.url()}`); });
  context.on('request', request => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') foreign.add(request.url());
  });
  const page = await context.newPage();
  // what came over the wire, the images of the case left aside
  let bytes = 0;
  const images = new Set();
  const network = await context.newCDPSession(page);
  await network.send('Network.enable');
  network.on('Network.requestWillBeSent', event => { if (event.request.url.includes('/frames/')) images.add(event.requestId); });
  network.on('Network.loadingFinished', event => { if (!images.has(event.requestId)) bytes += event.encodedDataLength; });
  return { context, page, wrong, foreign, bytes: () => bytes };
}
