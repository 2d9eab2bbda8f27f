// The model's draft beside what became of it: a second labelmap of the viewer, of which only the outlines are drawn.
// Nothing paints on it: the viewer's tools draw on the active labelmap only, and this one never is.
import type { Shown } from '../draft/copy';
import type { SegmentView } from '../server/types';

const MADE = 'annotate-model';
const ROWS_OF_COLOURS = 256;
const WHITER = 0.55;

export class ModelOutline {
  private colours = -1;
  private shownPanes: string[] = [];

  constructor(private readonly cs: any, private readonly tools: any, private readonly services: any) {}

  get isOn(): boolean {
    return Boolean(this.services.segmentationService.getSegmentation(MADE));
  }

  /** Show it in panes, over the images of slices 0, 1, … */
  async show(displaySet: unknown, panes: string[], images: string[], made: Shown, segments: SegmentView[]): Promise<void> {
    this.remove();
    const described = Object.fromEntries(segments.map(({ index, name }) => [index, { segmentIndex: index, label: name, active: false, locked: true, cachedStats: {} }]));
    await this.services.segmentationService.createLabelmapForDisplaySet(displaySet, { segmentationId: MADE, label: 'The model’s draft', segments: described });
    const table = Array.from({ length: ROWS_OF_COLOURS }, () => [0, 0, 0, 0]);
    for (const { index, colour } of segments) table[index] = [...colour.map(part => Math.round(part + (255 - part) * WHITER)), 255];
    this.colours = this.tools.segmentation.state.addColorLUT(table);
    this.fill(images, made);
    await this.showIn(panes);
  }

  /** Show it in panes that it is not in, after a change of layout. */
  async showIn(panes: string[]): Promise<void> {
    if (!this.isOn) return;
    const { segmentationService: service } = this.services;
    const { style, color } = this.tools.segmentation.config;
    const type = this.tools.Enums.SegmentationRepresentations.Labelmap;
    service._segmentationIdToColorLUTIndexMap?.set(MADE, this.colours);
    const missing = panes.filter(pane => !service.getSegmentationRepresentations(pane, { segmentationId: MADE }).length);
    for (const pane of missing) await service.addSegmentationRepresentation(pane, { segmentationId: MADE, type, config: { colorLUTOrIndex: this.colours } });
    for (const pane of panes) {
      color.setColorLUT(pane, MADE, this.colours);
      style.setRenderInactiveSegmentations(pane, true);
      style.setStyle({ viewportId: pane, segmentationId: MADE, type }, {
        renderFill: false, renderFillInactive: false, renderOutline: true, renderOutlineInactive: true,
        outlineWidth: 2, outlineWidthInactive: 2, outlineOpacity: 1, outlineOpacityInactive: 1,
      });
    }
    this.shownPanes = panes;
    this.tools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(MADE);
  }

  /** Take it out of a pane that copied it from another one. */
  leave(pane: string): void {
    const { segmentationService: service } = this.services;
    if (service.getSegmentationRepresentations(pane, { segmentationId: MADE }).length) service.removeRepresentationsFromViewport(pane, { segmentationId: MADE });
  }

  remove(): void {
    if (this.isOn) this.services.segmentationService.remove(MADE);
    for (const pane of this.shownPanes) this.tools.segmentation.config.style.setRenderInactiveSegmentations(pane, false);
    this.shownPanes = [];
  }

  private fill(images: string[], made: Shown): void {
    const slices = new Map(images.map((id, k) => [id, k]));
    for (const id of this.tools.segmentation.getLabelmapImageIds(MADE) ?? []) {
      const image = this.cs.cache.getImage(id);
      const k = slices.get(image.referencedImageId);
      const voxels = k === undefined ? undefined : made.slice(k);
      if (voxels) image.voxelManager.getScalarData().set(voxels);
    }
  }
}
