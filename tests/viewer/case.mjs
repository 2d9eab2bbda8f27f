// What is asked of the page of an open case. Voxels are (k, j, i) of the case's grid.
const LONG_MS = 90_000;
export { LONG_MS };

export function onCase(page) {
  const by = name => page.locator(`[data-cy=${name}]`);
  const wait = (what, given, timeout = LONG_MS) => page.waitForFunction(what, given, { timeout });

  /** Wait until a case is open and nothing is under way; `isWhole`: until all of its images are there as well. */
  const ready = async (isWhole = true) => {
    await wait(() => window.annotateCase && !window.annotateCase.desk.state.doing);
    if (isWhole) {
      await wait(() => {
        const { viewer } = window.annotateCase;
        const volume = window.cornerstone.cache.getVolumes().find(each => each.imageIds?.includes(viewer.images[0]));
        return !volume || volume.loadStatus?.loaded !== false;
      });
    }
    await frames();
  };
  /** Let the page draw. */
  const frames = () => page.evaluate(async () => { for (let n = 0; n < 2; n++) await new Promise(done => requestAnimationFrame(done)); });

  const state = () => page.evaluate(() => {
    const { desk } = window.annotateCase;
    const { revision, counts, problem, hasUnsent, doing, segments, notes } = desk.state;
    return { revision, counts: Object.fromEntries(counts), problem: problem?.message ?? '', unsent: hasUnsent, doing, segments, notes };
  });

  /** SHA-256 of the voxels that the viewer shows, and of those that the server answers with. */
  const digests = () => page.evaluate(async () => {
    const { desk, viewer, found } = window.annotateCase;
    const [nk, nj, ni] = found.geometry.shape;
    const shown = new Uint8Array(nk * nj * ni);
    for (let k = 0; k < nk; k++) shown.set(viewer.arrays[k], k * nj * ni);
    const content = new Uint8Array(await (await fetch(`/api/v1/sessions/${desk.id}/labelmap`)).arrayBuffer());
    const stored = content.subarray(8 + new DataView(content.buffer).getUint32(4, true));
    const hex = async data => [...new Uint8Array(await crypto.subtle.digest('SHA-256', data))].map(byte => byte.toString(16).padStart(2, '0')).join('');
    return { shown: await hex(shown), stored: await hex(stored) };
  });

  /** Do something and wait until the draft has another revision and nothing is under way. */
  const changing = async act => {
    const { revision } = await state();
    await act();
    await wait(before => {
      const { state: now } = window.annotateCase.desk;
      return now.revision > before && !now.doing && !now.hasUnsent;
    }, revision);
  };
  const saved = () => wait(() => { const { state: now } = window.annotateCase.desk; return !now.hasUnsent && !now.doing; });

  const world = index => page.evaluate(([k, j, i]) => {
    const { geometry: g } = window.annotateCase.found;
    return [0, 1, 2].map(n => g.origin_mm[n] + k * g.spacing_mm[0] * g.direction[0][n] + j * g.spacing_mm[1] * g.direction[1][n] + i * g.spacing_mm[2] * g.direction[2][n]);
  }, index);

  /** Where on the page a place (LPS mm) is, in a pane that is brought to show it. */
  const pixelOf = async (pane, place) => {
    await page.evaluate(([id, at]) => {
      const view = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      view.jumpToWorld(at);
      view.render();
    }, [pane, place]);
    await frames();
    return page.evaluate(([id, at]) => {
      const view = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
      const [x, y] = view.worldToCanvas(at);
      const { left, top } = view.element.getBoundingClientRect();
      return { x: left + x, y: top + y };
    }, [pane, place]);
  };
  const pixel = async (pane, index) => pixelOf(pane, await world(index));

  /** A voxel well inside a segment: where most of its own kind lie in the row, away from the first and last slices. */
  const inside = segment => page.evaluate(wanted => {
    const { viewer, found } = window.annotateCase;
    const [nk, nj, ni] = found.geometry.shape;
    let best = [0, null];
    for (let k = 0; k < nk; k++) {
      for (let j = 2; j < nj - 2; j++) {
        let run = 0;
        for (let i = 0; i < ni; i++) {
          run = viewer.arrays[k][j * ni + i] === wanted ? run + 1 : 0;
          const depth = Math.min(k, nk - 1 - k, 6) / 6;
          if (run * depth > best[0]) best = [run * depth, [k, j, i - (run >> 1)]];
        }
      }
    }
    return best[1];
  }, segment);

  /** The segment that the viewer shows at a voxel, and the one that the server has there. */
  const shown = index => page.evaluate(([k, j, i]) => window.annotateCase.viewer.arrays[k][j * window.annotateCase.found.geometry.shape[2] + i], index);
  const stored = index => page.evaluate(async ([k, j, i]) => {
    const { desk, found } = window.annotateCase;
    const content = new Uint8Array(await (await fetch(`/api/v1/sessions/${desk.id}/labelmap`)).arrayBuffer());
    const [, nj, ni] = found.geometry.shape;
    return content[8 + new DataView(content.buffer).getUint32(4, true) + (k * nj + j) * ni + i];
  }, index);

  /** Paint a voxel by code as a brush would: into the viewer's array, and tell the viewer. */
  const paint = (index, value) => page.evaluate(([[k, j, i], wanted]) => {
    const { viewer, found } = window.annotateCase;
    viewer.arrays[k][j * found.geometry.shape[2] + i] = wanted;
    viewer.redraw([k]);
  }, [index, value]);

  /** Draw with the mouse through places on the page. */
  const drag = async (...places) => {
    await page.mouse.move(places[0].x, places[0].y);
    await page.mouse.down();
    for (const { x, y } of places.slice(1)) await page.mouse.move(x, y, { steps: 4 });
    await page.mouse.up();
  };

  /** Add a segment in the panel; returns its index. */
  const addSegment = async name => {
    await page.fill('[aria-label="Name of a new segment"]', name);
    await changing(() => by('as-add-segment').click());
    return page.evaluate(wanted => window.annotateCase.desk.state.segments.find(each => each.name === wanted).index, name);
  };

  const panes = () => page.evaluate(() => window.annotateCase.viewer.panes());

  return { by, wait, ready, frames, state, digests, changing, saved, world, pixelOf, pixel, inside, shown, stored, paint, drag, addSegment, panes };
}
