/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Queries of models as scans of their own.
 *
 * FROM netbus.memories(...) is a function scan to PostgreSQL, which prepares each
 * of seventeen arguments for evaluation and stores the rows in a tuplestore: for
 * ten rows that takes longer than to find them.  So where a query has one of our
 * functions as an item of FROM, the planner gets a custom scan instead, which
 * evaluates only arguments that are no constants, has the row formed with no more columns
 * than are needed, and keeps up to work_mem of rows as they are.
 *
 * It answers as the function scan would: the function is called once, when the
 * first row is wanted, and again only if its arguments have changed.  Where a row as
 * a whole is wanted, or the function has been given settings or the like, the
 * function scan stays; so it does in commands that change or lock rows, which may look
 * at a row again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "cortex/model.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/explain.h"
#include NB_EXPLAIN_FORMAT_H
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#define MAX_ARGS (MODEL_MAX_FILTERS + 16)

static Node *create_scan_state(CustomScan *scan);

/* The functions, by their names in C. */
typedef struct ScanFunction
{
	const char *symbol;
	const ModelKind *kind;
	bool one; /* record, by its id */
	CustomScanMethods methods;
} ScanFunction;

static const ScanFunction functions[] = {
	{"netbus_memories", &memories_kind, false, {"netbus.memories", create_scan_state}},
	{"netbus_memory", &memories_kind, true, {"netbus.memory", create_scan_state}},
	{"netbus_tasks", &tasks_kind, false, {"netbus.tasks", create_scan_state}},
	{"netbus_task", &tasks_kind, true, {"netbus.task", create_scan_state}},
};

typedef struct QueryScan
{
	CustomScanState css;
	const ScanFunction *function;
	FuncExpr *call;
	ExprState *args[MAX_ARGS]; /* NULL: a constant, in its place already */
	Bitmapset *params;         /* what the arguments are made of */
	bool has_subplan;          /* they may be made of more */
	FmgrInfo flinfo;
	FunctionCallInfo fcinfo;

	/* The result. */
	bool done;
	RowType type;
	QueryRows rows;
	Size at;               /* next one of rows */
	Tuplestorestate *rest; /* what is too much for rows; NULL: nothing */
	TupleTableSlot *rest_slot;
	MemoryContextCallback at_end;
} QueryScan;

/* Memory for rows that goes from one scan to the next: to get it anew can take longer than a query. */
static char *spare = NULL;
static Size spare_room = 0;

#define KEEP_ROOM (1024 * 1024)

static set_rel_pathlist_hook_type prev_set_rel_pathlist_hook = NULL;

/* ---------------------------------------------------------------- planning */

/* Which of our functions is it?  NULL: none, or one that somebody has changed. */
static const ScanFunction *
find_function(Oid funcid)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	const ScanFunction *found = NULL;
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prolang == ClanguageId && proc->proretset && !proc->prosecdef &&
		heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL))
	{
		bool isnull;
		Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
		char *symbol = isnull ? NULL : TextDatumGetCString(source);

		for (int i = 0; symbol && i < lengthof(functions) && !found; i++)
			if (strcmp(functions[i].symbol, symbol) == 0)
				found = &functions[i];
	}
	ReleaseSysCache(tuple);
	return found;
}

static int
count_args(const ScanFunction *function)
{
	return function->one ? 2 : query_nargs(function->kind);
}

/* What an item of FROM calls, if it is one of our functions and nothing else; else NULL. */
static FuncExpr *
function_call(const RangeTblEntry *rte, const ScanFunction **function)
{
	RangeTblFunction *item;
	FuncExpr *call;

	if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1)
		return NULL;
	item = linitial_node(RangeTblFunction, rte->functions);
	if (!IsA(item->funcexpr, FuncExpr) || item->funccolnames != NIL)
		return NULL;
	call = (FuncExpr *) item->funcexpr;
	if (!call->funcretset || (*function = find_function(call->funcid)) == NULL ||
		list_length(call->args) != count_args(*function) ||
		item->funccolcount != (*function)->kind->ncolumns)
		return NULL;
	return call;
}

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
		  List *plans)
{
	RangeTblEntry *rte = planner_rt_fetch(rel->relid, root);
	CustomScan *scan = makeNode(CustomScan);
	const ScanFunction *function;
	FuncExpr *call = function_call(rte, &function);
	uint32 columns = 0;
	List *vars;
	ListCell *cell;

	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->scan.scanrelid = 0; /* there is no relation to open */
	scan->methods = &function->methods;
	scan->custom_exprs = list_make1(call);

	/* Of our target list others may make another one, of what the relation has to give. */
	vars = list_concat(pull_var_clause((Node *) tlist, PVC_RECURSE_PLACEHOLDERS),
					   pull_var_clause((Node *) rel->reltarget->exprs, PVC_RECURSE_PLACEHOLDERS));
	vars =
		list_concat(vars, pull_var_clause((Node *) scan->scan.plan.qual, PVC_RECURSE_PLACEHOLDERS));
	foreach(cell, vars)
	{
		Var *var = lfirst_node(Var, cell);

		if (var->varno == rel->relid && var->varattno > 0)
			columns |= 1 << (var->varattno - 1);
	}
	scan->custom_private = list_make1(makeInteger(columns));

	nb_expand_rte(rte, rel->relid, &vars);
	foreach(cell, vars)
		if (columns & (1 << (lfirst_node(Var, cell)->varattno - 1)))
			scan->custom_scan_tlist =
				lappend(scan->custom_scan_tlist,
						makeTargetEntry(lfirst(cell), list_length(scan->custom_scan_tlist) + 1,
										NULL, false));
	return &scan->scan.plan;
}

static const CustomPathMethods path_methods = {"netbus query", plan_scan, NULL};

/* Is a row as a whole looked at somewhere, which needs its type? */
static bool
wants_whole_row(const RelOptInfo *rel)
{
	Bitmapset *columns = NULL;

	if (!bms_is_empty(rel->attr_needed[0 - rel->min_attr]))
		return true;
	pull_varattnos((Node *) rel->reltarget->exprs, rel->relid, &columns);
	pull_varattnos((Node *) extract_actual_clauses(rel->baserestrictinfo, false), rel->relid,
				   &columns);
	return bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, columns);
}

/* In place of function scans. */
static void
set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	const ScanFunction *function;
	CustomPath *custom;
	Path *path;

	if (prev_set_rel_pathlist_hook)
		prev_set_rel_pathlist_hook(root, rel, rti, rte);
	if (rte->rtekind != RTE_FUNCTION || root->parse->resultRelation != 0 ||
		root->parse->rowMarks != NIL || !function_call(rte, &function) ||
		list_length(rel->pathlist) != 1)
		return;
	path = linitial(rel->pathlist);
	if (path->pathtype != T_FunctionScan || wants_whole_row(rel))
		return;
	custom = makeNode(CustomPath);
	custom->path = *path;
	NodeSetTag(custom, T_CustomPath);
	custom->path.pathtype = T_CustomScan;
	custom->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	custom->methods = &path_methods;
	rel->pathlist = list_make1(custom);
}

/* --------------------------------------------------------------- execution */

static void
put_rest(QueryRows *rows, const HeapTuple row)
{
	QueryScan *scan = (QueryScan *) ((char *) rows - offsetof(QueryScan, rows));

	if (!scan->rest)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->css.ss.ps.state->es_query_cxt);

		scan->rest = tuplestore_begin_heap(false, false, work_mem);
		if (!scan->rest_slot)
			scan->rest_slot = MakeSingleTupleTableSlot(
				scan->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor, &TTSOpsMinimalTuple);
		MemoryContextSwitchTo(old);
	}
	tuplestore_puttuple(scan->rest, row);
}

/* The query's context goes, also after an error. */
static void
give_memory_back(void *arg)
{
	QueryScan *scan = arg;

	if (scan->rows.room > spare_room && scan->rows.room <= KEEP_ROOM)
	{
		char *data = spare;

		spare = scan->rows.data;
		spare_room = scan->rows.room;
		scan->rows.data = data;
	}
	if (scan->rows.data)
		pfree(scan->rows.data);
}

static void
forget_rows(QueryScan *scan)
{
	scan->done = false;
	scan->rows.len = scan->at = 0;
	scan->rows.full = false;
	if (scan->rest_slot)
		ExecClearTuple(scan->rest_slot);
	if (scan->rest)
		tuplestore_end(scan->rest);
	scan->rest = NULL;
}

static void
run(QueryScan *scan)
{
	ExprContext *econtext = scan->css.ss.ps.ps_ExprContext;
	MemoryContext old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);

	for (int i = 0; i < scan->fcinfo->nargs; i++)
		if (scan->args[i])
			scan->fcinfo->args[i].value =
				ExecEvalExpr(scan->args[i], econtext, &scan->fcinfo->args[i].isnull);
	query_call(scan->fcinfo, scan->function->kind, scan->function->one, &scan->rows);
	MemoryContextSwitchTo(old);
	scan->done = true;
}

static TupleTableSlot *
next_row(ScanState *ss)
{
	QueryScan *scan = (QueryScan *) ss;
	TupleTableSlot *slot = ss->ss_ScanTupleSlot;

	if (!scan->done)
		run(scan);
	ExecClearTuple(slot);
	if (scan->at < scan->rows.len)
	{
		const QueryRow *row = (const QueryRow *) (scan->rows.data + scan->at);
		HeapTupleData tuple = {.t_len = row->len, .t_data = (HeapTupleHeader) (row + 1)};

		heap_deform_tuple(&tuple, slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
		scan->at += row->bytes;
		return ExecStoreVirtualTuple(slot);
	}
	if (scan->rest && tuplestore_gettupleslot(scan->rest, true, false, scan->rest_slot))
		return ExecCopySlot(slot, scan->rest_slot);
	return slot;
}

static bool
recheck_row(ScanState *ss, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static bool
find_params(Node *node, QueryScan *scan)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		scan->params = bms_add_member(scan->params, ((Param *) node)->paramid);
	else if (IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		scan->has_subplan = true;
	return expression_tree_walker(node, find_params, scan);
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	QueryScan *scan = (QueryScan *) node;
	List *args = scan->call->args;
	int n = 0;
	ListCell *cell;

	if (nb_function_aclcheck(scan->call->funcid, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(scan->call->funcid));
	InvokeFunctionExecuteHook(scan->call->funcid);

	scan->rows.context = TopMemoryContext;
	scan->rows.data = spare;
	scan->rows.room = spare_room;
	spare = NULL;
	spare_room = 0;
	scan->at_end.func = give_memory_back;
	scan->at_end.arg = scan;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &scan->at_end);

	(void) find_params((Node *) args, scan);
	scan->flinfo.fn_oid = scan->call->funcid;
	scan->flinfo.fn_mcxt = estate->es_query_cxt;
	scan->fcinfo = palloc(SizeForFunctionCallInfo(list_length(args)));
	InitFunctionCallInfoData(*scan->fcinfo, &scan->flinfo, list_length(args), InvalidOid, NULL,
							 NULL);
	foreach(cell, args)
	{
		Expr *arg = lfirst(cell);

		if (IsA(arg, Const))
		{
			scan->fcinfo->args[n].value = ((Const *) arg)->constvalue;
			scan->fcinfo->args[n].isnull = ((Const *) arg)->constisnull;
		}
		else
			scan->args[n] = ExecInitExpr(arg, &node->ss.ps);
		n++;
	}
}

static void
end_scan(CustomScanState *node)
{
	forget_rows((QueryScan *) node);
}

static void
rescan(CustomScanState *node)
{
	QueryScan *scan = (QueryScan *) node;

	ExecScanReScan(&node->ss);
	/* Of a parameter that only conditions have, the rows are the same. */
	if (node->ss.ps.chgParam != NULL &&
		(scan->has_subplan || bms_overlap(node->ss.ps.chgParam, scan->params)))
	{
		forget_rows(scan);
		return;
	}
	scan->at = 0;
	if (scan->rest)
		tuplestore_rescan(scan->rest);
}

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	QueryScan *scan = (QueryScan *) node;
	List *context;

	if (!es->verbose)
		return;
	context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);
	ExplainPropertyText(
		"Function Call",
		deparse_expression((Node *) scan->call, context, list_length(es->rtable) > 1, false), es);
}

static const CustomExecMethods exec_methods = {.CustomName = "netbus query",
											   .BeginCustomScan = begin_scan,
											   .ExecCustomScan = exec_scan,
											   .EndCustomScan = end_scan,
											   .ReScanCustomScan = rescan,
											   .ExplainCustomScan = explain_scan};

static Node *
create_scan_state(CustomScan *custom)
{
	QueryScan *scan = (QueryScan *) newNode(sizeof(QueryScan), T_CustomScanState);

	scan->css.methods = &exec_methods;
	scan->function =
		(const ScanFunction *) ((const char *) custom->methods - offsetof(ScanFunction, methods));
	scan->call = linitial_node(FuncExpr, custom->custom_exprs);
	row_type_init(&scan->type, scan->function->kind,
				  (uint32) intVal(linitial(custom->custom_private)));
	scan->rows.type = &scan->type;
	scan->rows.limit = (Size) work_mem * 1024;
	scan->rows.put = put_rest;
	return (Node *) scan;
}

void
scan_init(void)
{
	for (int i = 0; i < lengthof(functions); i++)
		RegisterCustomScanMethods(&functions[i].methods);
	prev_set_rel_pathlist_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = set_rel_pathlist;
}
