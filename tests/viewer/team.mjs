// Three people who sign in: one makes a project, one annotates, one reviews, returns it with a comment and approves at last.
import { onCase, LONG_MS } from './case.mjs';

export default async function play({ page, asked, seen, shot, another, wrong }) {
  const { url, tokens } = asked;
  const items = on => on.locator('[aria-label=Cases] li').allInnerTexts().then(all => all.map(each => each.replace(/\s+/g, ' ').trim()));
  const worklist = async on => {
    await on.goto(`${url}/viewer/worklist`);
    await on.locator('[data-cy=as-next]').waitFor({ timeout: LONG_MS });
    await on.locator('[aria-label=Cases] li').first().waitFor({ timeout: LONG_MS });
  };
  const signIn = async (on, token) => {
    await on.goto(`${url}/`);
    await on.fill('#token', token);
    await on.getByRole('button', { name: 'Sign in' }).click();
  };
  /** A lasso in the plane shown, `reach` pixels about the middle. */
  const lasso = async (on, reach) => {
    const at = onCase(on);
    await on.keyboard.press('l');
    const { x, y } = await on.evaluate(() => {
      const { left, top, width, height } = window.services.cornerstoneViewportService.getCornerstoneViewport('annotate-slices').element.getBoundingClientRect();
      return { x: left + width / 2, y: top + height / 2 };
    });
    await at.changing(() => at.drag(...[[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([right, down]) => ({ x: x + right * reach, y: y + down * reach }))));
    return (await at.state()).counts[1] ?? 0;
  };

  // the administrator: a wrong token first, then a project, and a case put aside
  await signIn(page, 'not a token');
  seen.refused = await page.getByRole('alert').innerText();
  seen.refused_status = wrong.splice(0).filter(each => each.startsWith('401')).length;
  await signIn(page, tokens.ada);
  await page.locator('[data-cy=as-next]').waitFor({ timeout: LONG_MS });
  await page.click('summary');
  await page.fill('[aria-label="Title of the project"]', 'Two pairs of eyes');
  await page.fill('[aria-label="Segments"]', 'Bladder\nProstate');
  await page.check('input[type=checkbox]');
  await page.locator('[data-cy=as-make-project]').click();
  await page.waitForFunction(() => document.querySelector('[data-cy=as-project]')?.value === 'two-pairs-of-eyes', null, { timeout: LONG_MS });
  await page.locator('[aria-label=Cases] li').nth(2).waitFor({ timeout: LONG_MS });
  seen.listed = await items(page);
  await page.locator('[aria-label="Put ct_torso.nii aside"]').click();
  await page.fill('[aria-label="Why the case cannot be used"]', 'moved during the scan');
  await page.getByRole('button', { name: 'Put aside', exact: true }).click();
  await page.getByText('Take back').waitFor({ timeout: LONG_MS });
  seen.aside = await items(page);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.locator('#token').waitFor({ timeout: LONG_MS });
  seen.signed_out = new URL(page.url()).pathname;

  // the annotator: the next case, a lasso and a helper, submitted
  const { page: ann } = await another();
  const annCase = onCase(ann);
  const choose = async on => {
    await on.locator('[data-cy=as-next]').waitFor({ timeout: LONG_MS });
    await on.selectOption('[data-cy=as-project]', 'two-pairs-of-eyes');
    await on.locator('[aria-label=Cases] li').first().waitFor({ timeout: LONG_MS });
  };
  await signIn(ann, tokens.ann);
  await choose(ann);
  await ann.locator('[data-cy=as-next]').click();
  await annCase.ready();
  seen.segments = (await annCase.state()).segments.map(each => each.name);
  seen.case = await ann.evaluate(() => window.annotateCase.found.id);
  seen.lasso = await lasso(ann, 45);
  await ann.selectOption('[data-cy=as-helper]', 'margin');
  await annCase.changing(() => annCase.by('as-help').click());
  seen.margin = (await annCase.state()).counts[1];
  await ann.keyboard.press('Control+Enter');
  await annCase.by('as-done').waitFor({ timeout: LONG_MS });
  seen.submitted = await annCase.by('as-done').innerText();

  // the reviewer sees what was submitted, and returns it with a comment
  const { page: bob } = await another();
  const bobCase = onCase(bob);
  await signIn(bob, tokens.bob);
  await choose(bob);
  const review = async () => {
    await bob.getByRole('button', { name: 'Review', exact: true }).first().click();
    await bobCase.ready();
    await bobCase.by('as-return').waitFor({ timeout: LONG_MS });
    return bobCase.digests();
  };
  seen.reviewed = await review();
  seen.reviewed_case = await bob.evaluate(() => window.annotateCase.found.id);
  await shot('review', bob);
  seen.return_needs_comment = await bobCase.by('as-return').isDisabled();
  await bob.fill('[aria-label="Comment"]', 'the lower end is missing');
  await bobCase.by('as-return').click();
  await bobCase.by('as-done').waitFor({ timeout: LONG_MS });

  // back to the annotator, who finds the label returned, goes on with it and submits again
  await worklist(ann);
  seen.returned = await items(ann);
  await shot('returned', ann);
  await ann.locator(`[data-cy="as-case-${seen.case}"]`).click();
  await annCase.ready();
  seen.taken_up = (await annCase.state()).counts[1] ?? 0;
  await annCase.wait(() => window.annotateCase.viewer.panes().length === 3);
  seen.corrected = await lasso(ann, 70);
  seen.corrected_digest = (await annCase.digests()).stored;
  await ann.keyboard.press('Control+Enter');
  await annCase.by('as-done').waitFor({ timeout: LONG_MS });

  // and approved
  await worklist(bob);
  seen.approving = await review();
  await bobCase.by('as-approve').click();
  await bobCase.by('as-done').waitFor({ timeout: LONG_MS });
  await worklist(bob);
  seen.after = await items(bob);
}
