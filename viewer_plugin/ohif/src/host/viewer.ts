// Everything that is asked of OHIF 3.13 and cornerstone 5, in one class: nothing else knows them.
import type { Shown } from '../draft/copy';
import type { Image } from '../draft/grid';
import type { Surface } from '../draft/desk';
import type { SegmentView } from '../server/types';
import type { Host } from './element';
import { ModelOutline } from './outline';
import { PANES } from './panes';
import { Sight } from './sight';
import { makePromptTool, PROMPT_TOOL, type PromptSettings } from './promptTool';

/* The viewer ships no types: what is `any` stays in this file. */

export interface Series { displaySet: string; studyUid: string; seriesUid: string; description: string; modality: string }
export type Layout = 'planes' | 'surfaces';
export type HandTool = 'CircularBrush' | 'CircularEraser' | 'SphereBrush' | 'ThresholdCircularBrushDynamic' | 'WindowLevel' | typeof PROMPT_TOOL;

const DRAFT = 'annotate-draft';
const TOOL_GROUPS = ['default', 'mpr'];
const ROWS_OF_COLOURS = 256;
const SETTLED_MS = 300;
const REDRAW_MS = 700;
const MOST_REDRAWS = 40;

export class Viewer {
  private readonly cs: any;
  private readonly tools: any;
  private colours = -1;
  private images: string[] = [];
  private arrays: (Uint8Array | undefined)[] = [];
  private rank = new Map<string, number>();
  private listed = new Map<number, SegmentView>();
  private active = 0;
  private redraws: ReturnType<typeof setTimeout> | undefined;
  private readonly outline: ModelOutline;
  readonly sight: Sight;

  constructor(private readonly host: Host) {
    const common = host.extensionManager.getModuleEntry('@ohif/extension-cornerstone.utilityModule.common');
    ({ cornerstone: this.cs, cornerstoneTools: this.tools } = common.exports.getCornerstoneLibraries());
    this.outline = new ModelOutline(this.cs, this.tools, this.services);
    this.sight = new Sight(this.cs, {
      panes: () => this.panes().filter(id => !this.isSolid(id)).map(id => this.pane(id)), images: () => this.images, active: () => this.pane(this.grid().activeViewportId),
      activate: id => this.services.viewportGridService.setActiveViewportId(id),
    });
  }

  // ---- what is open

  /** The series of the active pane, else of any; null before one is there. */
  series(): Series | null {
    const found = this.displaySet();
    return found && {
      displaySet: found.displaySetInstanceUID, studyUid: found.StudyInstanceUID, seriesUid: found.SeriesInstanceUID,
      description: found.SeriesDescription ?? '', modality: found.Modality ?? '',
    };
  }

  /** Its images, with where each lies. */
  shownImages(): Image[] {
    return (this.displaySet()?.imageIds ?? []).map((id: string) => {
      const plane = this.cs.metaData.get('imagePlaneModule', id);
      return {
        id, sop: this.cs.metaData.get('sopCommonModule', id)?.sopInstanceUID ?? '', frame: Number(/\/frames\/(\d+)/.exec(id)?.[1] ?? 1),
        plane: {
          position: [...plane.imagePositionPatient], row: [...plane.rowCosines], column: [...plane.columnCosines],
          rowSpacing: plane.rowPixelSpacing, columnSpacing: plane.columnPixelSpacing, rows: plane.rows, columns: plane.columns,
        },
      };
    });
  }

  /** Be told when other images are shown, or shown otherwise. */
  onLayout(listener: () => void): () => void {
    const { cornerstoneViewportService: panes, viewportGridService: grid, displaySetService: sets } = this.services;
    let timer: ReturnType<typeof setTimeout>;
    const settled = () => { clearTimeout(timer); timer = setTimeout(listener, SETTLED_MS); };
    const subscribed = [
      panes.subscribe(panes.EVENTS.VIEWPORT_DATA_CHANGED, settled), grid.subscribe(grid.EVENTS.ACTIVE_VIEWPORT_ID_CHANGED, settled),
      grid.subscribe(grid.EVENTS.GRID_STATE_CHANGED, settled), sets.subscribe(sets.EVENTS.DISPLAY_SETS_CHANGED, settled),
    ];
    return () => { clearTimeout(timer); for (const each of subscribed) each.unsubscribe(); };
  }

  /** Be told when voxels of the draft changed, by whatever. */
  onVoxels(listener: () => void): () => void {
    const name = this.tools.Enums.Events.SEGMENTATION_DATA_MODIFIED;
    const told = (event: any) => { if (event.detail?.segmentationId === DRAFT) listener(); };
    this.cs.eventTarget.addEventListener(name, told);
    return () => this.cs.eventTarget.removeEventListener(name, told);
  }

  /**
   * Keep the chosen segment chosen. The viewer counts voxels in the background and writes segments back as they were when
   * it began, the choice included: a brush would then draw into another segment, or nothing.
   */
  keepActive(): () => void {
    const name = this.tools.Enums.Events.SEGMENTATION_MODIFIED;
    let isChoosing = false;
    const told = (event: any) => {
      if (isChoosing || event.detail?.segmentationId !== DRAFT || !this.isOtherActive()) return;
      isChoosing = true;
      try { this.services.segmentationService.setActiveSegment(DRAFT, this.active); } finally { isChoosing = false; }
    };
    this.cs.eventTarget.addEventListener(name, told);
    return () => this.cs.eventTarget.removeEventListener(name, told);
  }

  // ---- the draft

  /** Make the draft's place in the viewer over the images of slices 0, 1, …, and return it. */
  async surface(images: string[], segments: SegmentView[]): Promise<Surface> {
    const set = this.displaySet();
    const service = this.services.segmentationService;
    if (!service.getSegmentation(DRAFT)) {
      await service.createLabelmapForDisplaySet(set, { segmentationId: DRAFT, label: 'Draft', segments: Object.fromEntries(segments.map(segment => [segment.index, described(segment)])) });
      this.listed = new Map(segments.map(segment => [segment.index, segment]));
      this.colours = -1;
    }
    this.images = images;
    await this.showEverywhere(segments);
    this.bind();
    return { slice: k => this.arrays[k], redraw: slices => this.redraw(slices), segments: all => this.setSegments(all) };
  }

  /** Whether the draft is in the viewer, in every pane that shows the images. */
  isShown(): boolean {
    return this.has() && this.missingPanes().length === 0;
  }

  has(): boolean {
    return Boolean(this.services.segmentationService.getSegmentation(DRAFT));
  }

  remove(): void {
    this.outline.remove();
    if (this.has()) this.services.segmentationService.remove(DRAFT);
    this.listed.clear();
    this.arrays = [];
  }

  /** After a change of layout the draft is there, but not drawn until something happens to it: once its images are there. */
  redrawAll(): void {
    clearTimeout(this.redraws);
    let left = MOST_REDRAWS;
    const again = () => {
      this.redrawNow();
      // no event says that a new pane is ready for overlays, and what comes before it is leaves no trace
      if (left-- > 0 && this.has() && !this.panes().every(id => this.isDrawn(id))) this.redraws = setTimeout(again, REDRAW_MS);
    };
    again();
  }

  /** Whether the draft is among what a pane draws. */
  private isDrawn(id: string): boolean {
    return (this.pane(id)?.getActors?.() ?? []).some((each: any) => String(each.representationUID).startsWith(DRAFT));
  }

  private redrawNow(): void {
    if (!this.has()) return;
    this.tools.segmentation.triggerSegmentationEvents.triggerSegmentationModified(DRAFT);
    for (const id of this.panes().filter(each => this.isSolid(each))) {
      this.outline.leave(id);
      // the body itself would hide the segments in it
      for (const { actor } of this.pane(id).getActors()) if (actor?.isA?.('vtkVolume')) actor.setVisibility(false);
      this.pane(id).render();
    }
  }

  activate(index: number): void {
    this.active = index;
    const service = this.services.segmentationService;
    for (const pane of this.panes()) service.setActiveSegmentation(pane, DRAFT);
    service.setActiveSegment(DRAFT, index);
  }

  hide(index: number, isHidden: boolean): void {
    const service = this.services.segmentationService;
    for (const pane of this.panes()) {
      // a pane in three dimensions shows surfaces, the others the voxels
      for (const { type } of service.getSegmentationRepresentations(pane, { segmentationId: DRAFT })) service.setSegmentVisibility(pane, DRAFT, index, !isHidden, type);
    }
  }

  hideAll(isHidden: boolean): void {
    for (const index of this.listed.keys()) this.hide(index, isHidden);
  }

  /** Show the outlines of another labelmap over the draft, or none. */
  async outlines(made: Shown | null, segments: SegmentView[]): Promise<void> {
    if (made) await this.outline.show(this.displaySet(), this.flatPanes(), this.images, made, segments);
    else this.outline.remove();
    // what was shown last would be what is drawn on
    this.activateAgain();
  }

  /** After a change of layout the outlines are missing in new panes. */
  async outlinesAgain(): Promise<void> {
    if (!this.outline.isOn) return;
    await this.outline.showIn(this.flatPanes());
    this.activateAgain();
  }

  // ---- tools

  use(tool: HandTool): void {
    const { MouseBindings: mouse, KeyboardBindings: key } = this.tools.Enums;
    // a binding is only for exactly its key
    const bindings = tool === PROMPT_TOOL
      ? [{ mouseButton: mouse.Primary }, { mouseButton: mouse.Primary, modifierKey: key.Alt }, { mouseButton: mouse.Primary, modifierKey: key.Ctrl }] : undefined;
    this.run('setToolActiveToolbar', { toolName: tool, toolGroupIds: TOOL_GROUPS, ...(bindings ? { bindings } : {}) });
  }

  brush(radiusMm: number): void {
    this.run('setBrushSize', { value: radiusMm });
  }

  /** Let a person draw prompts; `settings` is read whenever one begins. */
  promptTool(settings: PromptSettings): void {
    const tool = makePromptTool(this.tools, settings);
    for (const id of TOOL_GROUPS) {
      const group = this.services.toolGroupService.getToolGroup(id);
      if (!group || group.hasTool(PROMPT_TOOL)) continue;
      this.tools.addTool(tool);
      group.addTool(PROMPT_TOOL);
      group.setToolPassive(PROMPT_TOOL);
    }
  }

  /** Undo and redo of the viewer's own buttons and keys become ours: there is one history, the server's. */
  takeOverUndo(undo: () => void, redo: () => void): void {
    this.host.commandsManager.registerCommand('CORNERSTONE', 'undo', { commandFn: undo, storeContexts: [], options: {} });
    this.host.commandsManager.registerCommand('CORNERSTONE', 'redo', { commandFn: redo, storeContexts: [], options: {} });
  }

  /** Show the planes of the grid, or three planes of the patient and the segments as surfaces beside them. */
  layOut(name: Layout): void {
    this.run('setHangingProtocol', { protocolId: name === 'surfaces' ? 'fourUp' : PANES.id, reset: true });
  }

  /** Show a place (LPS mm) in every pane. */
  goTo(place: readonly number[]): void {
    for (const id of this.panes()) {
      const pane = this.pane(id);
      if (pane?.jumpToWorld) { pane.jumpToWorld(place); pane.render(); }
    }
  }

  /** Stand on slices, not between two of them, where a brush would meet neither: panes of an even number open there. */
  standOnSlices(nearest: (place: number[]) => readonly number[] | null): void {
    for (const id of this.flatPanes()) {
      const pane = this.pane(id);
      const place = pane?.jumpToWorld && nearest([...pane.getCamera().focalPoint]);
      if (place) { pane.jumpToWorld(place); pane.render(); }
    }
  }

  // ---- inside

  /** Whether any other segment than the chosen one counts as chosen, or not even that: the first that does is drawn into. */
  private isOtherActive(): boolean {
    const segments: Record<string, any> = this.services.segmentationService.getSegmentation(DRAFT)?.segments ?? {};
    return this.active in segments && Object.entries(segments).some(([index, segment]) => Boolean(segment.active) !== (Number(index) === this.active));
  }

  private activateAgain(): void {
    if (this.has() && this.active) this.activate(this.active);
  }

  private get services(): any { return this.host.servicesManager.services; }

  private run(command: string, options: object): void { this.host.commandsManager.run(command, options); }

  private pane(id: string): any { return this.services.cornerstoneViewportService.getCornerstoneViewport(id); }

  private grid(): any { return this.services.viewportGridService.getState(); }

  private displaySet(): any {
    const { viewports, activeViewportId } = this.grid();
    for (const pane of [viewports.get(activeViewportId), ...viewports.values()].filter(Boolean)) {
      for (const id of pane.displaySetInstanceUIDs ?? []) {
        const found = this.services.displaySetService.getDisplaySetByUID(id);
        if (found && !found.isOverlayDisplaySet && found.imageIds?.length) return found;
      }
    }
    return null;
  }

  /** The panes that show the images. */
  private panes(): string[] {
    const id = this.displaySet()?.displaySetInstanceUID;
    return [...this.grid().viewports.values()].filter((pane: any) => pane.displaySetInstanceUIDs?.includes(id)).map((pane: any) => pane.viewportId);
  }

  /** Those that show slices: the others make surfaces of all that is put into them. */
  private flatPanes(): string[] {
    return this.panes().filter(id => !this.isSolid(id));
  }

  private isSolid(id: string): boolean {
    return String(this.pane(id)?.type).endsWith('3d');
  }

  private missingPanes(): string[] {
    const service = this.services.segmentationService;
    return this.panes().filter(pane => !service.getSegmentationRepresentations(pane, { segmentationId: DRAFT }).length);
  }

  private async showEverywhere(segments: SegmentView[]): Promise<void> {
    const service = this.services.segmentationService;
    const missing = this.missingPanes();
    if (!missing.length) return;
    if (this.colours < 0) {
      const table = Array.from({ length: ROWS_OF_COLOURS }, () => [0, 0, 0, 0]);
      for (const { index, colour } of segments) table[index] = [...colour, 255];
      this.colours = this.tools.segmentation.state.addColorLUT(table);
    }
    // the panes copy the first overlay from one another, with a table of their own unless it is known before
    service._segmentationIdToColorLUTIndexMap?.set(DRAFT, this.colours);
    for (const pane of missing) {
      await service.addSegmentationRepresentation(pane, { segmentationId: DRAFT, type: this.tools.Enums.SegmentationRepresentations.Labelmap, config: { colorLUTOrIndex: this.colours } });
    }
    for (const pane of missing) this.tools.segmentation.config.color.setColorLUT(pane, DRAFT, this.colours);
  }

  /** Find the voxels of each slice: one array lies under every pane; never by order, for the viewer has several. */
  private bind(): void {
    const under = new Map<string, Uint8Array>();
    this.rank.clear();
    for (const id of this.tools.segmentation.getLabelmapImageIds(DRAFT) ?? []) {
      const image = this.cs.cache.getImage(id);
      under.set(image.referencedImageId, image.voxelManager.getScalarData());
    }
    this.arrays = this.images.map(id => under.get(id));
    const set = this.displaySet();
    const volume = this.cs.cache.getVolume(`${set.volumeLoaderSchema ?? 'cornerstoneStreamingImageVolume'}:${set.displaySetInstanceUID}`);
    (volume?.imageIds ?? []).forEach((id: string, n: number) => this.rank.set(id, n));
    if (this.arrays.some(array => !(array instanceof Uint8Array))) throw new Error('The viewer has no place for some slices of the draft.');
  }

  private redraw(slices: number[]): void {
    if (!this.has()) return;
    const places = slices.map(k => this.rank.get(this.images[k] ?? '')).filter(n => n !== undefined);
    const isKnown = slices.length > 0 && places.length === slices.length;
    this.tools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(DRAFT, isKnown ? places : undefined);
  }

  /** Locks are not told to the viewer: a brush over a locked segment would move the one that is drawn into a layer apart. */
  private setSegments(segments: SegmentView[]): void {
    const service = this.services.segmentationService;
    const wanted = new Map(segments.map(segment => [segment.index, segment]));
    for (const index of this.listed.keys()) if (!wanted.has(index)) service.removeSegment(DRAFT, index);
    for (const [index, segment] of wanted) {
      const before = this.listed.get(index);
      if (!before) service.addSegment(DRAFT, { segmentIndex: index, label: segment.name, color: [...segment.colour, 255] });
      if (before && before.name !== segment.name) service.setSegmentLabel(DRAFT, index, segment.name);
      if (!before || String(before.colour) !== String(segment.colour)) {
        for (const pane of this.panes()) service.setSegmentColor(pane, DRAFT, index, [...segment.colour, 255]);
      }
    }
    this.listed = wanted;
  }
}

function described(segment: SegmentView): object {
  return { segmentIndex: segment.index, label: segment.name, active: false, locked: false, cachedStats: {} };
}
