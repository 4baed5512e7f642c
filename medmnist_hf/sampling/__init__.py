"""Choose rows: a fraction or a few of each class, nested and stratified, and folds; the same rows on any machine."""
