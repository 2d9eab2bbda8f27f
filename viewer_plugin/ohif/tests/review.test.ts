import { expect, test } from 'vitest';
import { DraftCopy, type Shown } from '../src/draft/copy';
import { Differences, nextSlice, unsureSlices } from '../src/draft/review';
import type { Triple } from '../src/server/frame';

const SHAPE: Triple = [4, 3, 4];
const NOWHERE: Shown = { slice: () => undefined };
const at = (k: number, j: number, i: number, value: number): [{ start: Triple; stop: Triple }, Uint8Array] =>
  [{ start: [k, j, i], stop: [k + 1, j + 1, i + 1] }, Uint8Array.of(value)];

test('a draft differs where it was changed, and no longer where it was changed back', () => {
  const [now, made] = [new DraftCopy(SHAPE), new DraftCopy(SHAPE)];
  for (const copy of [now, made]) copy.take(...at(1, 1, 1, 5), NOWHERE);
  const differences = new Differences(now, made);
  expect(differences.slices()).toEqual([]);
  now.take(...at(3, 2, 2, 1), NOWHERE);
  now.take(...at(1, 1, 1, 0), NOWHERE);
  expect(differences.slices()).toEqual([1, 3]);
  expect([differences.middle(3, 4), differences.middle(0, 4)]).toEqual([[3, 2, 2], null]);
  now.take(...at(3, 2, 2, 0), NOWHERE);
  expect(differences.slices()).toEqual([1]);
});

test('what the model drew and nobody has any more differs too', () => {
  const [now, made] = [new DraftCopy(SHAPE), new DraftCopy(SHAPE)];
  made.take(...at(2, 0, 3, 5), NOWHERE);
  const differences = new Differences(now, made);
  expect([differences.slices(), differences.middle(2, 4)]).toEqual([[2], [2, 0, 3]]);
});

test('the place that is shown differs itself, though two places do', () => {
  const [now, made] = [new DraftCopy([1, 1, 9]), new DraftCopy([1, 1, 9])];
  for (const i of [0, 7, 8]) now.take(...at(0, 0, i, 1), NOWHERE);
  expect(new Differences(now, made).middle(0, 9)).toEqual([0, 0, 7]);
});

test('slices follow one another in both directions, round the ends', () => {
  expect([nextSlice([2, 5, 9], 5, 1), nextSlice([2, 5, 9], 9, 1), nextSlice([2, 5, 9], 3, -1), nextSlice([2, 5, 9], 2, -1), nextSlice([], 1, 1)]).toEqual([9, 2, 2, 9, null]);
});

test('unsure slices are peaks, not all that lies about them', () => {
  expect(unsureSlices([0, 0.1, 0.2, 0.1, 0, 0.1, 0.8, 0.9, 0.7, 0.1, 0.1, 0.6, 0.1, 0, 0])).toEqual([7, 11]);
  expect(unsureSlices([])).toEqual([]);
  expect(unsureSlices([0, 0])).toEqual([]);
  expect(unsureSlices([0.2, 0.2, 0.6, 0.2, 0.2, 0.2, 0.6])).toEqual([2, 6]);
  expect(unsureSlices([0.2, 0.2, 0.2])).toEqual([]);
});
