import { expect, test } from 'vitest';
import { FIRST, helperOrder, KINDS, lacking, type Settings } from '../src/ui/helperOrders';

const AT = { segment: 3, place: [1, 2, 3], others: [5, 6] };
const set = (part: Partial<Settings>): Settings => ({ ...FIRST, ...part });

test('every helper can be carried out as it is offered at first', () => {
  for (const { kind } of KINDS) expect([kind, lacking(kind, FIRST, AT)]).toEqual([kind, '']);
  expect(KINDS.map(({ kind }) => helperOrder(kind, FIRST, AT))).toEqual([
    { kind: 'smooth', segment: 3, distance_mm: 1.5 },
    { kind: 'interpolate', segment: 3, axis: 0 },
    { kind: 'fill-holes', segment: 3, by_slice: false },
    { kind: 'islands', segment: 3, rule: 'largest' },
    { kind: 'margin', segment: 3, distance_mm: 2 },
    { kind: 'region-growing', segment: 3, seed_mm: [1, 2, 3] },
    { kind: 'geodesic-fill', segment: 3, distance_mm: 15, seed_mm: [1, 2, 3] },
    { kind: 'threshold', segment: 3, low: 100, high: 300 },
    { kind: 'combine', segment: 3, combination: 'union', other: 5 },
  ]);
});

test('what is set is sent, and only what counts', () => {
  expect(helperOrder('islands', set({ rule: 'minimum-size', volume_ml: 0.5 }), AT)).toEqual({ kind: 'islands', segment: 3, rule: 'minimum-size', volume_ml: 0.5 });
  expect(helperOrder('islands', set({ rule: 'at-seed' }), AT)).toEqual({ kind: 'islands', segment: 3, rule: 'at-seed', seed_mm: [1, 2, 3] });
  expect(helperOrder('region-growing', set({ isRangeGiven: true, low: -50, high: 80 }), AT)).toMatchObject({ low: -50, high: 80 });
  expect(helperOrder('combine', set({ other: 6, combination: 'copy' }), AT)).toMatchObject({ other: 6, combination: 'copy' });
  expect(helperOrder('combine', set({ other: 3 }), AT).other).toBe(5);
});

test('a helper that lacks something says what', () => {
  expect(lacking('smooth', FIRST, { ...AT, segment: 0 })).toContain('segment');
  expect(lacking('geodesic-fill', FIRST, { ...AT, place: null })).toContain('Click');
  expect(lacking('islands', FIRST, { ...AT, place: null })).toBe('');
  expect(lacking('islands', set({ rule: 'at-seed' }), { ...AT, place: null })).toContain('Click');
  expect(lacking('combine', FIRST, { ...AT, others: [] })).toContain('no other');
  expect(lacking('threshold', set({ low: 5, high: 1 }), AT)).toContain('range');
  expect(lacking('threshold', set({ low: NaN }), AT)).toContain('range');
  expect(lacking('smooth', set({ distance_mm: { smooth: 0 } }), AT)).toContain('mm');
  expect(lacking('margin', set({ distance_mm: { margin: -2 } }), AT)).toBe('');
  expect(lacking('islands', set({ rule: 'minimum-size', volume_ml: 0 }), AT)).toContain('ml');
});
