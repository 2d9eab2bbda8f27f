// One browser for all tests. Reads lines from the standard input: {"play": name of a module here, …what it is asked}. Each
// is played in a window of its own and answered by a line {"seen", "wrong", "foreign"}. A play may ask back for what a
// page cannot do, as ending the server: {"ask": what} on the output, a line of JSON on the input.
import path from 'node:path';
import { createInterface } from 'node:readline';
import { launched, opened } from './browser.mjs';

const browser = await launched(process.argv[2]);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => { const { value, done } = await lines.next(); return done ? null : JSON.parse(value); };
const print = value => process.stdout.write(`${JSON.stringify(value)}\n`);
const tell = async ask => { print({ ask }); return next(); };

for (let asked = await next(); asked; asked = await next()) {
  const { default: play } = await import(`./${asked.play}.mjs`);
  const window = await opened(browser, asked.window);
  const { page, wrong, foreign } = window;
  const seen = {};
  const shot = async (name, of = page) => { await of.screenshot({ path: path.join(asked.shots, `${asked.play}-${name}.png`), timeout: 90_000 }); };
  // somebody else's window; what goes wrong in it counts as well
  const another = () => opened(browser, { wrong, foreign });
  try {
    await play({ ...window, asked, seen, shot, tell, another });
  } catch (error) {
    seen.failed = String(error.stack ?? error).slice(0, 1500);
    seen.panel = await page.locator('body').innerText({ timeout: 2000 }).catch(() => '');
    await shot('failed').catch(() => undefined);
  }
  for (const context of browser.contexts()) await context.close().catch(() => undefined);
  print({ seen, wrong, foreign: [...foreign] });
}
await browser.close();
