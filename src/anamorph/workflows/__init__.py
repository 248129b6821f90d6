"""What is made of many scans or pairs: submissions, preprocessed data sets, templates, layers, cohorts, treatments."""
