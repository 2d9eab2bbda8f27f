// How hard a model expects a case to be, as a word; the number is beside it for whoever wants it.
import type { WorkItemView } from '../server/types';

const STEPS = [[1 / 3, 'easy'], [2 / 3, 'medium'], [Infinity, 'hard']] as const;

/** Null where no model says. */
export function difficultyOf(item: WorkItemView): { word: string; title: string } | null {
  const { difficulty } = item;
  if (typeof difficulty !== 'number' || item.status === 'approved') return null;
  const word = STEPS.find(([most]) => difficulty < most)![1];
  return { word, title: `How unsure the model was of its draft: ${difficulty.toFixed(2)}, from 0 to 1` };
}
