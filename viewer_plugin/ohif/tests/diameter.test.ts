import { expect, test } from 'vitest';
import { DraftCopy, type Shown } from '../src/draft/copy';
import { Diameters, diametersOf } from '../src/draft/diameter';
import type { Triple } from '../src/server/frame';

const NOWHERE: Shown = { slice: () => undefined };

/** Every pair of voxels, each with the middles of its four sides. */
function slowly(voxels: Uint8Array, columns: number, jMm: number, iMm: number, value: number): number {
  const edges: [number, number][] = [];
  voxels.forEach((each, at) => {
    if (each !== value) return;
    const [j, i] = [Math.floor(at / columns), at % columns];
    for (const [dj, di] of [[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]] as const) edges.push([(j + dj) * jMm, (i + di) * iMm]);
  });
  return Math.max(...edges.flatMap(a => edges.map(b => Math.hypot(a[0] - b[0], a[1] - b[1]))));
}

/** Numbers that are the same in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => { state = (state * 1103515245 + 12345) % 2147483648; return state / 2147483648; };
}

test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])('the diameters are those of all pairs of edges (%i)', seed => {
  const random = numbers(seed);
  const [rows, columns] = [3 + Math.floor(random() * 12), 3 + Math.floor(random() * 12)];
  const [jMm, iMm] = [0.3 + random() * 3, 0.3 + random() * 3];
  const density = random();
  const voxels = Uint8Array.from({ length: rows * columns }, () => (random() < density ? Math.floor(random() * 4) : 0));
  const found = diametersOf(voxels, columns, { jMm, iMm });
  expect([...found.keys()].sort()).toEqual([...new Set(voxels)].filter(each => each).sort());
  for (const [value, mm] of found) expect(mm).toBeCloseTo(slowly(voxels, columns, jMm, iMm, value), 9);
});

test('a single voxel is as long as its longer side, and a row as its outer edges', () => {
  expect(diametersOf(Uint8Array.of(0, 0, 0, 7, 0, 0), 3, { jMm: 2, iMm: 0.5 })).toEqual(new Map([[7, 2]]));
  expect(diametersOf(Uint8Array.of(0, 9, 9, 9, 9, 0), 6, { jMm: 0.1, iMm: 0.5 })).toEqual(new Map([[9, 2]]));
});

test('a disc is as long as its diameter', () => {
  const voxels = Uint8Array.from({ length: 101 * 101 }, (_, at) => Number(Math.hypot(Math.floor(at / 101) - 50, at % 101 - 50) <= 40));
  expect(Math.abs(diametersOf(voxels, 101, { jMm: 1, iMm: 1 }).get(1)! - 80)).toBeLessThan(1.5);
});

test('only slices that changed are measured again, a few at a time, and the longest of all slices counts', () => {
  const shape: Triple = [4, 3, 5];
  const copy = new DraftCopy(shape);
  const asked: number[] = [];
  const watched = { changes: copy.changes, slice: (k: number) => { asked.push(k); return copy.slice(k); } };
  const diameters = new Diameters(watched, 5, { jMm: 1, iMm: 1 });
  copy.take({ start: [1, 1, 0], stop: [3, 2, 3] }, Uint8Array.of(4, 4, 0, 4, 4, 4), NOWHERE);
  let steps = 2;
  expect(diameters.work(() => steps-- > 0)).toBe(false);
  expect(diameters.longest()).toEqual(new Map([[4, { mm: 2, k: 1 }]]));
  expect(diameters.work(() => true)).toBe(true);
  expect(diameters.longest()).toEqual(new Map([[4, { mm: 3, k: 2 }]]));
  copy.take({ start: [2, 1, 0], stop: [3, 2, 3] }, new Uint8Array(3), NOWHERE);
  asked.length = 0;
  expect(diameters.work(() => true)).toBe(true);
  expect([asked, diameters.longest()]).toEqual([[2], new Map([[4, { mm: 2, k: 1 }]])]);
});
