// The same head stored in many orientations: where the viewer draws which place, the letters at its edges, and a brush.
import path from 'node:path';
import { onCase } from './case.mjs';

export default async function play({ page, asked, seen, tell }) {
  const at = onCase(page);
  const pane = 'annotate-slices';
  seen.cases = [];
  for (const { name, address, landmark } of asked.cases) {
    await page.goto(`${asked.url}${address}`);
    await at.ready();
    await page.mouse.move(5, 5);
    const found = { name, session: await page.evaluate(() => window.annotateCase.desk.id) };
    await at.pixelOf(pane, landmark);
    Object.assign(found, await page.evaluate(async id => {
      const view = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      const { viewUp: up, viewPlaneNormal: out, focalPoint } = view.getCamera();
      const right = [0, 1, 2].map(n => up[(n + 1) % 3] * out[(n + 2) % 3] - up[(n + 2) % 3] * out[(n + 1) % 3]);
      const grid = [];
      for (let a = -80; a <= 80; a += 4) {
        for (let b = -80; b <= 80; b += 4) {
          const place = [0, 1, 2].map(n => focalPoint[n] + a * right[n] + b * up[n]);
          grid.push([...place, ...view.worldToCanvas(place)]);
        }
      }
      // of the first pane, which this is
      const letters = Object.fromEntries(['top', 'left'].map(side => [side, document.querySelector(`.${side}-mid .orientation-marker-value`)?.textContent ?? '']));
      return { right, up, letters, grid };
    }, pane));
    const box = await page.evaluate(id => {
      const { left, top, width, height } = window.services.cornerstoneViewportService.getCornerstoneViewport(id).element.getBoundingClientRect();
      return { x: left, y: top, width, height };
    }, pane);
    found.picture = path.join(asked.shots, `orientation-${name}.png`);
    await page.screenshot({ path: found.picture, clip: box });
    // a brush where the landmark is
    await at.addSegment('Marked');
    await at.by('as-hand-CircularBrush').click();
    const here = await at.pixelOf(pane, landmark);
    await at.changing(() => page.mouse.click(here.x, here.y));
    Object.assign(found, await at.digests());
    seen.cases.push(found);
    await tell('a sign of life');
  }
}
