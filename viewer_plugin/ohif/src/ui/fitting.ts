// Whether a model fits a case, and if not, why: the same that the server would say, before it is asked.
import type { CaseView, ModelView } from '../server/types';

/** Why a model cannot be used on a case, as a sentence; empty where it can. */
export function misfit(model: ModelView, found: CaseView): string {
  const { card } = model;
  if (!card || model.state !== 'ready') return model.reason || 'It is not ready.';
  if (!found.modality) return 'The modality of the case is not known; say it with the case.';
  if (card.modalities.length && !card.modalities.includes(found.modality)) return `It is for ${card.modalities.join(' and ')}; this is ${found.modality}.`;
  const slices = found.geometry?.shape[0];
  if (slices !== undefined && slices < card.min_slices) return `It needs at least ${card.min_slices} slices; this has ${slices}.`;
  return '';
}
