// What the hand does on the images: prompts to a model, or the viewer's own brushes.
import type { HandTool } from '../host/viewer';
import type { PromptKind } from '../host/promptTool';
import type { CaseView, ModelView } from '../server/types';
import { misfit } from './fitting';

export const PROMPTS: [PromptKind, string, string][] = [['point', 'Point', 'P'], ['scribble', 'Scribble', 'S'], ['lasso', 'Lasso', 'L'], ['box', 'Box', 'X']];
export const HANDS: [HandTool, string, string, string][] = [
  ['CircularBrush', 'Brush', 'B', 'Paints in the slice'], ['CircularEraser', 'Eraser', 'E', 'Takes away in the slice'], ['SphereBrush', 'Ball', 'O', 'Paints in all directions'],
  ['ThresholdCircularBrushDynamic', 'Threshold', 'T', 'Paints what is as bright as the middle of the brush'], ['WindowLevel', 'Window', 'W', 'Brightness and contrast, and a hand that draws nothing'],
];
export const MOST_BRUSH_MM = 40;

/** What is in hand: a prompt by its kind, or a tool of the viewer. */
export type InHand = PromptKind | HandTool | '';

/** The models that answer prompts of a kind on a case. */
export function answering(models: ModelView[], kind: string, found: CaseView): ModelView[] {
  return models.filter(model => model.card?.prompts.includes(kind) && misfit(model, found) === '');
}

export function Tools({ models, found, hasSegment, model, inHand, positive, brushMm, onModel, onTake, onSign, onBrush }: {
  models: ModelView[]; found: CaseView; hasSegment: boolean; model: string; inHand: InHand; positive: boolean; brushMm: number;
  onModel: (name: string) => void; onTake: (tool: InHand) => void; onSign: () => void; onBrush: (mm: number) => void;
}) {
  const usable = models.filter(each => each.card?.prompts.length && misfit(each, found) === '');
  const can = models.find(each => each.name === model)?.card?.prompts ?? [];
  return (
    <>
      <section aria-labelledby="as-prompts">
        <h2 id="as-prompts">Prompt</h2>
        {usable.length === 0 ? <p class="as-quiet">No model answers prompts on this case.</p> : (
          <>
            <select aria-label="Model that answers prompts" data-cy="as-prompt-model" value={model} onChange={event => onModel(event.currentTarget.value)}>
              {usable.map(each => <option key={each.name} value={each.name} title={`${each.version} · ${each.card?.licence ?? ''}`}>{each.card?.title}</option>)}
            </select>
            <div class="as-tools">
              {PROMPTS.map(([kind, label, key]) => (
                <button key={kind} data-cy={`as-prompt-${kind}`} aria-pressed={inHand === kind} aria-keyshortcuts={key} disabled={!hasSegment || !can.includes(kind)} title={can.includes(kind) ? `${label} (${key})` : 'This model does not take it'} onClick={() => onTake(kind)}>{label}<kbd aria-hidden="true">{key}</kbd></button>
              ))}
            </div>
            <div class="as-row as-tight">
              <button data-cy="as-sign" class="as-grow" aria-pressed={!positive} aria-keyshortcuts="N" title="Positive or negative (N); Ctrl or Alt turns one prompt round" onClick={onSign}>
                <span class="as-sign" data-sign={positive ? 'positive' : 'negative'}>{positive ? '＋ this is part of it' : '－ this is not part of it'}</span><kbd aria-hidden="true">N</kbd>
              </button>
            </div>
          </>
        )}
      </section>
      <section aria-labelledby="as-hands">
        <h2 id="as-hands">Draw</h2>
        <div class="as-tools as-hands">
          {HANDS.map(([tool, label, key, what]) => <button key={tool} data-cy={`as-hand-${tool}`} aria-pressed={inHand === tool} aria-keyshortcuts={key} disabled={!hasSegment && tool !== 'WindowLevel'} title={`${what} (${key})`} onClick={() => onTake(tool)}>{label}<kbd aria-hidden="true">{key}</kbd></button>)}
        </div>
        <label class="as-row as-tight"><span class="as-quiet">Radius</span>
          <input type="range" class="as-grow" min={1} max={MOST_BRUSH_MM} value={brushMm} onInput={event => onBrush(Number(event.currentTarget.value))} /><span>{brushMm} mm</span>
        </label>
      </section>
    </>
  );
}
