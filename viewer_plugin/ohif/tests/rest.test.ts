import { expect, test } from 'vitest';
import { imagesByK, placeOf, voxelAt, type Image } from '../src/draft/grid';
import { misfit } from '../src/ui/fitting';
import { projectForm } from '../src/ui/newProject';
import { heardKey, type Key } from '../src/ui/keys';
import { difficultyOf } from '../src/ui/difficulty';
import type { CaseView, ModelView, WorkItemView } from '../src/server/types';

const [C, S] = [Math.cos(0.4), Math.sin(0.4)];
// oblique, three different sides: a swapped axis always shows
const GRID = { digest: 'g', shape: [3, 4, 5], spacing_mm: [3, 2, 1], direction: [[0, -S, C], [0, C, S], [1, 0, 0]], origin_mm: [-10, 20, 30] };
const INSTANCES = [0, 1, 2].map(k => ({ sop_instance_uid: `1.${k}`, frame: 1, k }));
const CASE = { id: 'c', name: 'c', modality: 'MR', geometry: GRID, instances: INSTANCES } as unknown as CaseView;

function images(): Image[] {
  return [0, 1, 2].map(k => ({
    id: `image ${k}`, sop: `1.${k}`, frame: 1,
    plane: { position: placeOf(GRID, [k, 0, 0]), row: [1, 0, 0], column: [0, C, S], rowSpacing: 2, columnSpacing: 1, rows: 4, columns: 5 },
  }));
}

test('slices are found by identifier, whatever the order of the viewer', () => {
  expect(imagesByK(CASE, images().reverse())).toEqual(['image 0', 'image 1', 'image 2']);
});

test.each([
  ['lies elsewhere', (all: Image[]) => { all[1]!.plane = { ...all[1]!.plane, position: placeOf(GRID, [2, 0, 0]) }; }],
  ['lies elsewhere', (all: Image[]) => { all[0]!.plane = { ...all[0]!.plane, row: [0, C, S], column: [1, 0, 0] }; }],
  ['lies elsewhere', (all: Image[]) => { all[2]!.plane = { ...all[2]!.plane, rowSpacing: 1, columnSpacing: 2 }; }],
  ['1 of 3 slices', (all: Image[]) => { all.pop(); }],
])('images that are not the case are refused: %s', (sentence, spoil) => {
  const all = images();
  spoil(all);
  expect(() => imagesByK(CASE, all)).toThrow(sentence);
});

test('a tilted series has no slices to draw on', () => {
  expect(() => imagesByK({ ...CASE, instances: [] }, images())).toThrow('tilted');
});

test('a place and its voxel lead to each other', () => {
  expect(voxelAt(GRID, placeOf(GRID, [2, 1, 4]))).toEqual([2, 1, 4]);
  expect(voxelAt(GRID, placeOf(GRID, [3, 1, 4]))).toBeNull();
});

test('a model that does not fit says why', () => {
  const model = (card: object, state = 'ready') => ({ name: 'm', state, reason: 'Its weights are not installed', card: { modalities: ['CT'], min_slices: 1, ...card } }) as unknown as ModelView;
  expect(misfit(model({}), CASE)).toBe('It is for CT; this is MR.');
  expect(misfit(model({ modalities: ['CT', 'MR'] }), CASE)).toBe('');
  expect(misfit(model({ modalities: [], min_slices: 9 }), CASE)).toBe('It needs at least 9 slices; this has 3.');
  expect(misfit(model({}, 'weights-missing'), CASE)).toContain('weights');
  expect(misfit(model({ modalities: [] }), { ...CASE, modality: null })).toContain('not known');
});

test('keys are told apart by Ctrl and Shift, and signs by themselves', () => {
  const key = (key: string, more = {}): Key => ({ key, label: '', what: '', act: () => undefined, ...more });
  const keys = [key('z', { ctrl: true }), key('z', { ctrl: true, shift: true }), key('p'), key('?')];
  const press = (key: string, more = {}) => heardKey(keys, { key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...more });
  expect(press('z', { ctrlKey: true })).toBe(keys[0]);
  expect(press('Z', { ctrlKey: true, shiftKey: true })).toBe(keys[1]);
  expect(press('z', { metaKey: true })).toBe(keys[0]);
  expect(press('p')).toBe(keys[2]);
  expect(press('p', { ctrlKey: true })).toBeUndefined();
  expect(press('?', { shiftKey: true })).toBe(keys[3]);
});

test('a new project has the segments of its app and those that were named, and an id that is free', () => {
  const app = { name: 'organs', card: { segments: [{ index: 3, name: 'Liver', colour: [1, 2, 3], kind: ['10200004', 'SCT', 'Liver'], category: null, laterality: null }] } } as unknown as ModelView;
  const form = projectForm('Émile’s Organs', app, 'Liver\nSpleen, Kidney', { isReviewed: true, sendsBack: true }, ['emile-s-organs']);
  expect([form.id, form.review, form.send_labels_back, form.apps]).toEqual(['emile-s-organs-2', 'other-person', true, ['organs']]);
  expect(projectForm('Lungs', undefined, '', { isReviewed: false, sendsBack: false }, [])).toMatchObject({ review: 'none', send_labels_back: false });
  expect(form.segments?.map(each => [each.index, each.name])).toEqual([[3, 'Liver'], [4, 'Spleen'], [5, 'Kidney']]);
  expect(form.segments?.[0]?.kind).toEqual(['10200004', 'SCT', 'Liver']);
});

test('a case is as hard as the model expects, where it says so', () => {
  const item = { case: 'c', status: 'open' } as unknown as WorkItemView;
  const word = (difficulty: number | null, status = 'open') => difficultyOf({ ...item, status, difficulty })?.word ?? '';
  expect([word(0), word(0.5), word(0.7), word(1), word(null), word(0.9, 'approved')]).toEqual(['easy', 'medium', 'hard', 'hard', '', '']);
  expect(difficultyOf(item)).toBeNull();
  expect(difficultyOf({ ...item, difficulty: 0.42 })?.title).toContain('0.42');
});
