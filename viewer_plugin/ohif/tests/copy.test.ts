import { expect, test } from 'vitest';
import { DraftCopy } from '../src/draft/copy';
import type { Box, Triple } from '../src/server/frame';

const SHAPE: Triple = [3, 4, 5];

function viewer(shape = SHAPE) {
  const slices = Array.from({ length: shape[0] }, () => new Uint8Array(shape[1] * shape[2]));
  return { slices, slice: (k: number) => slices[k], set: (k: number, j: number, i: number, value: number) => { slices[k]![j * shape[2] + i] = value; }, at: (k: number, j: number, i: number) => slices[k]![j * shape[2] + i] };
}
const box = (start: Triple, stop: Triple): Box => ({ start, stop });

test('a box of the server lands where it belongs, and only its slices have changed', () => {
  const [copy, shown] = [new DraftCopy(SHAPE), viewer()];
  expect(copy.take(box([1, 2, 1], [3, 3, 4]), Uint8Array.of(1, 2, 3, 0, 0, 0), shown)).toEqual([1]);
  expect([shown.at(1, 2, 1), shown.at(1, 2, 2), shown.at(1, 2, 3), shown.at(1, 2, 4), shown.at(2, 2, 1)]).toEqual([1, 2, 3, 0, 0]);
  expect(copy.edited(shown)).toBeNull();
});

test('an edit is the smallest box of what differs, with what lies between', () => {
  const [copy, shown] = [new DraftCopy(SHAPE), viewer()];
  copy.take(box([0, 0, 0], SHAPE), new Uint8Array(60).fill(2), shown);
  shown.set(0, 3, 4, 7);
  shown.set(1, 1, 2, 0);
  const edit = copy.edited(shown)!;
  expect(edit.box).toEqual(box([0, 1, 2], [2, 4, 5]));
  expect([...edit.voxels]).toEqual([2, 2, 2, 2, 2, 2, 2, 2, 7, 0, 2, 2, 2, 2, 2, 2, 2, 2]);
});

test('what was edited and not sent yet survives a frame of the server', () => {
  const [copy, shown] = [new DraftCopy(SHAPE), viewer()];
  shown.set(1, 1, 1, 5);
  copy.take(box([1, 1, 0], [2, 2, 3]), Uint8Array.of(9, 9, 9), shown);
  expect([shown.at(1, 1, 0), shown.at(1, 1, 1), shown.at(1, 1, 2)]).toEqual([9, 5, 9]);
  expect(copy.edited(shown)!.box).toEqual(box([1, 1, 1], [2, 2, 2]));
});

test('an undo takes away what the server has taken away', () => {
  const [copy, shown] = [new DraftCopy(SHAPE), viewer()];
  copy.take(box([0, 0, 0], [1, 1, 2]), Uint8Array.of(3, 3), shown);
  expect(copy.take(box([0, 0, 0], [1, 1, 2]), Uint8Array.of(0, 3), shown)).toEqual([0]);
  expect([shown.at(0, 0, 0), shown.at(0, 0, 1)]).toEqual([0, 3]);
});

test('only what is wrong is put back', () => {
  const [copy, shown] = [new DraftCopy(SHAPE), viewer()];
  copy.take(box([0, 0, 0], [1, 1, 3]), Uint8Array.of(1, 2, 0), shown);
  shown.set(0, 0, 0, 9);
  shown.set(0, 0, 1, 9);
  shown.set(2, 0, 0, 9);
  expect(copy.revert(shown, was => was === 2)).toEqual([0]);
  expect([shown.at(0, 0, 0), shown.at(0, 0, 1), shown.at(2, 0, 0)]).toEqual([9, 2, 9]);
});

test('a viewer that shows the draft anew shows what the server has', () => {
  const copy = new DraftCopy(SHAPE);
  copy.take(box([1, 0, 0], [2, 1, 2]), Uint8Array.of(4, 6), viewer());
  const shown = viewer();
  shown.set(2, 2, 2, 8);
  copy.showAll(shown);
  expect([shown.at(1, 0, 0), shown.at(1, 0, 1), shown.at(2, 2, 2)]).toEqual([4, 6, 0]);
  expect(copy.counts()).toEqual(new Map([[4, 1], [6, 1]]));
  copy.take(box([1, 0, 0], [2, 1, 2]), Uint8Array.of(6, 6), shown);
  expect(copy.counts()).toEqual(new Map([[6, 2]]));
});

test('slices whose bytes do not make whole words are compared too', () => {
  const shape: Triple = [2, 3, 3];
  const [copy, shown] = [new DraftCopy(shape), viewer(shape)];
  expect(copy.edited(shown)).toBeNull();
  shown.set(1, 2, 2, 1);
  expect(copy.edited(shown)!.box).toEqual(box([1, 2, 2], [2, 3, 3]));
});
