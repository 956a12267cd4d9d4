"""Functions of somebody else's source, run without importing it: its packages need not be installed."""

import ast


def isolated(sources, names, namespace):
    """Return a namespace with the functions and classes called `names`, taken from the texts `sources`.

    Decorators, annotations and imports inside of them are left out; `namespace` has what their code reads.
    """
    defined = dict(namespace)
    for name in names:
        (node,) = [node for text in sources for node in ast.walk(ast.parse(text)) if _defines(node, name)]
        module = ast.fix_missing_locations(ast.Module([_Bare().visit(node)], []))
        exec(compile(module, name, "exec"), defined)
    return defined


def _defines(node, name):
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name


class _Bare(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.decorator_list = [item for item in node.decorator_list if ast.unparse(item) == "staticmethod"]
        node.returns = None
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()

    def visit_Import(self, node):
        return ast.Pass()

    visit_ImportFrom = visit_Import  # noqa: N815
