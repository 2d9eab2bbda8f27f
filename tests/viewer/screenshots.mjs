// The picture of the README: a draft that is corrected, frame by frame. What the browser does is what a person does.
import { onCase } from './case.mjs';

// LPS mm, in the torso of the sample data
const HEART = [22, -32, -8];
const ROOT = [8, -32, 53];
const POINTER = '<svg xmlns="http://www.w3.org/2000/svg" width="22" height="30" viewBox="0 0 22 30"><path d="M2 2v21l5-5 4 9 4-2-4-8h7z" fill="white" stroke="black" stroke-width="1.5"/></svg>';

export default async function play({ page, asked, seen }) {
  const at = onCase(page);
  seen.frames = [];
  const frame = async (ms, name = '') => {
    await at.frames();
    const file = `${asked.shots}/frame-${String(seen.frames.length).padStart(2, '0')}.png`;
    await page.screenshot({ path: file });
    seen.frames.push({ file, ms, name });
  };
  await page.goto(`${asked.url}${asked.address}`);
  await at.ready();
  await page.mouse.move(1250, 700);
  // a browser without a screen draws no pointer
  await page.evaluate(picture => {
    const pointer = document.createElement('div');
    pointer.innerHTML = picture;
    pointer.style.cssText = 'position:fixed;z-index:99999;pointer-events:none;left:-50px;top:0';
    document.body.append(pointer);
    window.addEventListener('pointermove', ({ clientX, clientY }) => { pointer.style.left = `${clientX - 2}px`; pointer.style.top = `${clientY - 2}px`; }, { capture: true });
  }, POINTER);
  const click = async locator => {
    const { x, y, width, height } = await locator.boundingBox();
    await page.mouse.move(x + width / 2, y + height / 2);
    return { x: x + width / 2, y: y + height / 2 };
  };
  const press = async locator => { const { x, y } = await click(locator); await page.mouse.click(x, y); };
  const goTo = async place => { await page.evaluate(where => window.annotateCase.viewer.goTo(where), place); await page.waitForTimeout(300); };

  await goTo(HEART);
  await click(at.by('as-draft'));
  await frame(1100, 'opened');
  await at.changing(() => press(at.by('as-draft')));
  await page.waitForTimeout(500);
  await frame(1500, 'drafted');
  // the body lies over everything: it goes, and the heart is wanted instead
  await press(page.getByText('Body', { exact: true }));
  await frame(500);
  await at.changing(() => press(at.by('as-delete')));
  await page.fill('[aria-label="Name of a new segment"]', 'Heart');
  await click(at.by('as-add-segment'));
  await frame(900);
  await at.changing(() => press(at.by('as-add-segment')));
  await press(at.by('as-prompt-lasso'));
  await frame(600);
  const [slices] = await at.panes();
  const centre = await at.pixelOf(slices, HEART);
  const edge = async (dx, dy) => at.pixelOf(slices, [HEART[0] + dx, HEART[1] + dy, HEART[2]]);
  const ring = [];
  for (let n = 0; n <= 16; n++) ring.push(await edge(54 * Math.cos(n * Math.PI / 8), 42 * Math.sin(n * Math.PI / 8)));
  const { revision } = await at.state();
  await page.mouse.move(ring[0].x, ring[0].y);
  await page.mouse.down();
  for (const [n, { x, y }] of ring.entries()) {
    await page.mouse.move(x, y, { steps: 3 });
    if (n % 5 === 4) await frame(300);
  }
  await page.mouse.up();
  await at.wait(before => { const { state } = window.annotateCase.desk; return state.revision > before && !state.doing; }, revision);
  await page.mouse.move(centre.x, centre.y);
  await frame(1700, 'lassoed');
  await page.keyboard.press('b');
  // the root of the vessel above it belongs to it as well: a stroke in another plane
  const coronal = (await at.panes())[2];
  const from = await at.pixelOf(coronal, [ROOT[0] - 4, HEART[1], ROOT[2]]);
  const to = await at.pixelOf(coronal, [ROOT[0] + 4, HEART[1], ROOT[2]]);
  await page.mouse.move(from.x, from.y);
  await frame(700);
  await at.changing(() => at.drag(from, to));
  await page.waitForTimeout(600);
  await frame(1300, 'brushed');
  await click(at.by('as-submit'));
  await frame(700);
  await press(at.by('as-submit'));
  await at.by('as-done').waitFor();
  await page.waitForTimeout(500);
  await frame(2200, 'submitted');
}
