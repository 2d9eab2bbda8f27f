// The pages of the learning loop: a training is ordered, followed and judged, a version promoted and rolled back.
import { readFileSync } from 'node:fs';
import { packages, sleep } from './browser.mjs';

const axe = readFileSync(packages.resolve('axe-core/axe.min.js'), 'utf8');
const TRAINED_MS = 240_000;

async function barriers(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run('body'));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
}

export default async function play({ page, asked, seen, shot }) {
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  seen.barriers = [];
  seen.fits = [];
  const looked = async name => { seen.barriers.push(...await barriers(page)); seen.fits.push(await fits()); await shot(name); };

  // an app is trained for a project: the project gets a model of its own
  await page.goto(`${asked.url}/loop`);
  await looked('models');
  await page.getByRole('link', { name: asked.app, exact: true }).click();
  await page.getByRole('button', { name: 'Train now' }).click();
  await page.getByText('The training is ordered.').waitFor();
  seen.own = new URL(page.url()).pathname.split('/').pop();

  // it is followed while it runs, without loading the page anew, until its version is there
  await page.getByRole('heading', { name: 'Training', exact: true }).waitFor();
  const curve = page.locator('[data-live] svg.plot');
  await curve.waitFor({ timeout: TRAINED_MS });
  seen.running = await page.locator('[data-live]').innerText();
  await looked('training');
  await page.getByRole('heading', { name: 'No training runs' }).waitFor({ timeout: TRAINED_MS });
  await sleep(500);
  const versions = page.locator('section', { has: page.getByRole('heading', { name: 'Versions' }) }).locator('tbody tr');
  seen.versions = await versions.count();
  await looked('model');

  // what the gate found
  await versions.first().getByRole('link').first().click();
  await page.getByRole('heading', { name: 'What the gate found' }).waitFor();
  seen.version = new URL(page.url()).pathname.split('/').pop();
  seen.gate = await page.locator('main').innerText();
  await looked('version');

  // whatever it said, a person has the last word: forward, back, and forward again
  await page.getByRole('link', { name: seen.own }).click();
  const promote = page.getByRole('button', { name: `Promote version ${seen.version}` });
  if (await promote.count()) { await promote.click(); await page.getByText('serves from the next prediction on').waitFor(); }
  await page.getByRole('button', { name: /^Roll back to/ }).click();
  await page.getByText('The former version serves').waitFor();
  seen.back = await page.locator('#serving + .row code').innerText();
  await promote.click();
  await page.getByText('The version serves').waitFor();
  seen.serves = await page.locator('#serving + .row code').innerText();

  // another one is begun from nothing, and says what it waits for
  await page.goto(`${asked.url}/loop`);
  await page.getByLabel('Name').fill('begun_here');
  await page.getByLabel('Project').selectOption(asked.empty);
  await page.getByRole('button', { name: 'Begin' }).click();
  await page.getByText('The model is begun.').waitFor();
  seen.begun = await page.locator('main').innerText();

  // with the keyboard alone: the link to the content comes first
  await page.goto(`${asked.url}/loop/jobs`);
  await page.keyboard.press('Tab');
  seen.first = await page.evaluate(() => document.activeElement.textContent);
  seen.jobs = await page.locator('main').innerText();
  await looked('jobs');
}
