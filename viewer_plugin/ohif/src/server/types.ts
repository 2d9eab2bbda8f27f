// The server's nouns, as its description (openapi.json) says them.
import type { components } from '../generated/openapi';

type Schemas = components['schemas'];
export type SegmentView = Schemas['SegmentView'];
export type SessionView = Schemas['SessionView'];
export type ProjectView = Schemas['ProjectView'];
export type CaseView = Schemas['CaseView'];
export type RefusedView = Schemas['RefusedView'];
export type WorkItemView = Schemas['WorkItemView'];
export type ModelView = Schemas['ModelView'];
export type LabelView = Schemas['LabelView'];
export type DraftedView = Schemas['DraftedView'];
export type JobView = Schemas['JobView'];
export type MeView = Schemas['MeView'];
export type PromptForm = Schemas['PromptForm'];
export type HelperForm = Schemas['HelperForm'];
export type SegmentForm = Schemas['SegmentForm'];
export type SegmentChangeForm = Schemas['SegmentChangeForm'];
export type NewProjectForm = Schemas['NewProjectForm'];
