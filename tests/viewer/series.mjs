// Series that are no plain volume, and ones with much in them: what the panel says, which panes they open in, and whether
// what a brush draws is stored.
import { onCase, LONG_MS } from './case.mjs';

export default async function play({ page, asked, seen, shot }) {
  const at = onCase(page);
  seen.cases = [];
  for (const { name, address, says, is_large } of asked.cases) {
    const found = { name };
    seen.cases.push(found);
    const began = Date.now();
    await page.goto(`${asked.url}${address}`);
    if (says) {
      await at.by('as-panel').getByText(says).first().waitFor({ timeout: LONG_MS });
      await shot(name);
      continue;
    }
    await at.ready(!is_large);
    found.opened_ms = Date.now() - began;
    if (asked.protocol) {
      await page.evaluate(id => window.commandsManager.run('setHangingProtocol', { protocolId: id, reset: true }), asked.protocol);
      await at.wait(() => window.services.cornerstoneViewportService.getCornerstoneViewport(window.annotateCase.viewer.panes()[0])?.type === 'stack' && window.annotateCase.viewer.isShown());
    }
    found.panel = await at.by('as-panel').innerText();
    found.panes = await at.panes();
    found.kinds = await page.evaluate(() => window.annotateCase.viewer.panes().map(id => window.services.cornerstoneViewportService.getCornerstoneViewport(id).type));
    found.session = await page.evaluate(() => window.annotateCase.desk.id);
    if (asked.segments) {
      // one voxel of each segment, then what each is called and coloured in the viewer
      await at.changing(() => page.evaluate(() => {
        const { viewer, found: open, desk } = window.annotateCase;
        const [, , ni] = open.geometry.shape;
        for (const [n, { index }] of desk.state.segments.entries()) viewer.arrays[n % 7][(2 + Math.floor(n / 7)) * ni + 3 + n % 5] = index;
        viewer.redraw([0, 1, 2, 3, 4, 5, 6]);
      }));
      found.segments = await page.evaluate(() => {
        const service = window.services.segmentationService;
        const { desk, viewer } = window.annotateCase;
        return desk.state.segments.map(({ index }) => ({
          index, name: service.getSegmentation('annotate-draft').segments[index].label,
          colours: viewer.panes().map(pane => [...service.getSegmentColor(pane, 'annotate-draft', index)].slice(0, 3)),
          row: document.querySelector(`[data-cy=as-segment-${index}]`).innerText,
          swatch: document.querySelector(`[data-cy=as-segment-${index}]`).closest('li').querySelector('input[type=color]').value,
        }));
      });
      Object.assign(found, await at.digests());
      await shot(name);
      continue;
    }
    const index = await at.addSegment('Painted');
    await at.by('as-hand-CircularBrush').click();
    // the viewer counts voxels in the background, and writes the segments back as they were when it began
    await page.evaluate(() => {
      const service = window.services.segmentationService;
      const { segments } = service.getSegmentation('annotate-draft');
      service.addOrUpdateSegmentation({ segmentationId: 'annotate-draft', segments: Object.fromEntries(Object.entries(segments).map(([n, each]) => [n, { ...each, active: n === '0' }])) });
    });
    // in what is seen first, without going to a slice
    const { x, y } = await page.evaluate(id => {
      const box = window.services.cornerstoneViewportService.getCornerstoneViewport(id).element.getBoundingClientRect();
      return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    }, found.panes[0]);
    await at.changing(() => at.drag({ x, y }, { x: x + 20, y }));
    found.first = (await at.state()).counts[index] ?? 0;
    await at.changing(() => page.keyboard.press('Control+z'));
    const shape = await page.evaluate(() => window.annotateCase.found.geometry.shape);
    found.middle = shape.map(n => n >> 1);
    const middle = await at.pixel(found.panes[0], found.middle);
    await at.changing(() => at.drag(middle, { x: middle.x + 30, y: middle.y + 10 }));
    found.count = (await at.state()).counts[index];
    if (!is_large) Object.assign(found, await at.digests());
    await shot(name);
  }
}
