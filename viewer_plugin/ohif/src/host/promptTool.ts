// The tool that prompts are drawn with: a point, a scribble, a lasso or a box, in whatever plane a pane shows.

export const PROMPT_TOOL = 'AnnotatePrompt';
export type PromptKind = 'point' | 'scribble' | 'lasso' | 'box';

export interface Drawn { kind: PromptKind; points: number[][]; isOtherSign: boolean }

export interface PromptSettings {
  kind: () => PromptKind;
  positive: () => boolean;
  drawn: (prompt: Drawn) => void;
}

const GREEN = 'rgb(80, 230, 120)';
const RED = 'rgb(255, 95, 95)';
const LEAST_STEP_PX = 2;
const LEAST_LASSO = 3;

/** The tool as a class of the viewer's own kind; made at run time, since the viewer brings the class that it extends. */
export function makePromptTool(tools: any, settings: PromptSettings): any {
  return class PromptTool extends tools.BaseTool {
    static toolName = PROMPT_TOOL;
    private points: number[][] = [];
    private last: number[] = [];
    private pane: any = null;
    private isOtherSign = false;

    constructor(given = {}, usual = { supportedInteractionTypes: ['Mouse', 'Touch'], configuration: {} }) {
      super(given, usual);
    }

    preMouseDownCallback = (event: any) => {
      const { currentPoints, element } = event.detail;
      this.points = [[...currentPoints.world]];
      this.last = currentPoints.canvas;
      this.pane = element;
      this.isOtherSign = Boolean(event.detail.event?.altKey || event.detail.event?.ctrlKey);
      this.draw();
      return true;
    };

    mouseDragCallback = (event: any) => {
      const { currentPoints, element } = event.detail;
      if (element !== this.pane || settings.kind() === 'point') return;
      const [x, y] = currentPoints.canvas;
      if (Math.hypot(x - this.last[0]!, y - this.last[1]!) < LEAST_STEP_PX) return;
      this.last = currentPoints.canvas;
      if (settings.kind() === 'box') this.points = [this.points[0]!, [...currentPoints.world]];
      else this.points.push([...currentPoints.world]);
      this.draw();
    };

    mouseUpCallback = () => this.end();
    mouseClickCallback = () => this.end();
    touchStartCallback = (event: any) => this.preMouseDownCallback(event);
    touchDragCallback = (event: any) => this.mouseDragCallback(event);
    touchEndCallback = () => this.end();

    renderAnnotation = (enabled: any, svg: any): boolean => {
      if (!this.points.length || enabled.viewport.element !== this.pane) return false;
      const colour = settings.positive() !== this.isOtherSign ? GREEN : RED;
      const at = this.points.map(point => enabled.viewport.worldToCanvas(point));
      const kind = settings.kind();
      if (kind === 'point') {
        tools.drawing.drawCircle(svg, PROMPT_TOOL, 'point', at[0], 5, { color: colour, fill: colour, fillOpacity: 0.4, lineWidth: 2 });
      } else if (kind === 'box') {
        if (at.length === 2) tools.drawing.drawRect(svg, PROMPT_TOOL, 'box', at[0], at[1], { color: colour, lineWidth: 2 });
      } else if (at.length > 1) {
        tools.drawing.drawPolyline(svg, PROMPT_TOOL, 'line', at, { color: colour, lineWidth: 3, closePath: kind === 'lasso' });
      }
      return true;
    };

    private end(): void {
      const { points, isOtherSign } = this;
      const kind = settings.kind();
      this.points = [];
      this.draw();
      const least = kind === 'box' ? 2 : kind === 'lasso' ? LEAST_LASSO : 1;
      if (points.length >= least) settings.drawn({ kind, points, isOtherSign });
    }

    private draw(): void {
      if (this.pane) tools.utilities.triggerAnnotationRender(this.pane);
    }
  };
}
