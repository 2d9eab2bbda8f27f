// What a person waits for, by the browser's own clock: prompts, and a draft of a large CT.
import { onCase, LONG_MS } from './case.mjs';

export default async function play({ page, bytes, asked, seen }) {
  const at = onCase(page);
  await page.addInitScript(() => performance.setResourceTimingBufferSize(100_000));
  const began = Date.now();
  await page.goto(`${asked.url}${asked.address}`);
  await at.ready(false);
  seen.opened_ms = Date.now() - began;
  await at.ready();
  seen.whole_ms = Date.now() - began;
  seen.first_load_bytes = bytes();

  // a draft: from the end of the job, by the server's clock, which is this machine's
  await page.evaluate(() => {
    const { desk, viewer } = window.annotateCase;
    const noted = window.noted = {};
    const clock = () => performance.timeOrigin + performance.now();
    const { element } = window.services.cornerstoneViewportService.getCornerstoneViewport(viewer.panes()[0]);
    element.addEventListener('CORNERSTONE_IMAGE_RENDERED', () => { if (noted.arrays && !noted.drawn) requestAnimationFrame(() => { noted.drawn ??= clock(); }); });
    desk.subscribe(() => { if (!noted.arrays && desk.state.revision > 0 && desk.state.counts.size) noted.arrays = clock(); });
  });
  await page.selectOption('[data-cy=as-app]', asked.app);
  let job = '';
  page.on('response', async response => { if (response.url().endsWith('/draft')) job = (await response.json()).id; });
  await at.by('as-draft').click();
  await page.waitForFunction(() => window.noted.drawn, null, { timeout: 4 * LONG_MS });
  const noted = await page.evaluate(() => window.noted);
  const ended = Date.parse((await (await fetch(`${asked.url}/api/v1/jobs/${job}`)).json()).ended_at);
  Object.assign(seen, { arrays_ms: noted.arrays - ended, drawn_ms: noted.drawn - ended });
  seen.labelmap_bytes = await page.evaluate(() => performance.getEntriesByType('resource').filter(each => each.name.includes('/labelmap')).at(-1)?.encodedBodySize);

  // prompts: what the desk waits for beside what the server says it took
  const segment = await at.addSegment('Prompted');
  const first = Number(Object.entries((await at.state()).counts).sort((a, b) => b[1] - a[1])[0][0]);
  const middle = await at.inside(first);
  await at.by(`as-segment-${first}`).click();
  await at.changing(() => at.by('as-delete').click());
  const place = await at.world(middle);
  seen.prompts = await page.evaluate(async ([where, index, count]) => {
    const { desk } = window.annotateCase;
    const times = [];
    // a person looks at an answer before the next prompt; software takes seconds to draw what a card draws in a blink
    const seen = () => new Promise(done => {
      let last = performance.now();
      let quick = 0;
      const look = now => {
        quick = now - last < 50 ? quick + 1 : 0;
        last = now;
        if (quick < 5) requestAnimationFrame(look); else done();
      };
      requestAnimationFrame(look);
    });
    await seen();
    for (let n = 0; n < count; n++) {
      performance.clearResourceTimings();
      const from = performance.now();
      const at = where.map((x, axis) => x + (axis < 2 ? 3 * Math.cos(n + axis) : 0));
      if (!await desk.prompt({ kind: 'point', points_mm: [at], segment: index, positive: true, model: 'any_structure' })) throw new Error(desk.state.problem?.message ?? 'refused');
      const round = performance.now() - from;
      await new Promise(done => setTimeout(done, 50));
      const entry = performance.getEntriesByType('resource').find(each => each.name.endsWith('/prompts'));
      times.push({ round, server: entry.serverTiming.find(each => each.name === 'total').duration, wire: entry.responseEnd - entry.startTime, bytes: entry.encodedBodySize });
      await desk.undo();
      await seen();
    }
    return times;
  }, [place, segment, asked.prompts]);
}
